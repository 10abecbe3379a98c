"""What all rules share: how `mcsp` is called, and how requests grow when a job is tried again."""

# Rules call the checkout's own package, by its directory: no environment needs it installed. Without an environment (--sdm
# conda) or an image (--sdm apptainer) around it, the Python that runs Snakemake runs the stages too. Each worker keeps to one core's
# numerical threads. SIGTERM, as Slurm sends it at the time limit, is for the stage, which may save its work: the shell waits for
# it. LAUNCHER: words before it.
AROUND = workflow.deployment_settings.deployment_method
IMAGE = (
    '[ -n "${APPTAINER_CONTAINER:-}${SINGULARITY_CONTAINER:-}" ]' if DeploymentMethod.APPTAINER in AROUND else "false"
)
WITHIN = "true" if DeploymentMethod.CONDA in AROUND else IMAGE
MCSP = f"PYTHON={shlex.quote(sys.executable)}; if {WITHIN}; then PYTHON=python; fi; "
MCSP += f'mcsp() {{ ${{LAUNCHER:-}} "$PYTHON" {shlex.quote(str(BASE / "src/mcsp"))} "$@"; }}; '
shell.prefix(
    "set -euo pipefail; trap : TERM; "
    "export MPLBACKEND=Agg MNE_DONTWRITE_HOME=true OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1; "
    + MCSP.replace("{", "{{").replace("}", "}}")
)


STORES = [str(path) for path in PLAN.stores()]

# Options with text of the user's in them (paths, patterns, titles) go into params through a function: Snakemake would
# take a pair of braces in a plain string for a wildcard.


def grow(amount):
    """A resource that doubles, triples, ... with each attempt."""
    return lambda wildcards, attempt: amount * attempt


def launcher(wildcards, threads):
    """What starts pre-training on several nodes; '' on one."""
    return PLAN.launcher(threads)


def all_stores(wildcards):
    """Stores of all shards. As a function: of a plain list, Snakemake hashes the whole once for each of its files and each job."""
    return STORES


def above(name, levels):
    """The directory so many levels above the (first) input of a name: what stages that read many shards are handed."""

    def find(wildcards, input):
        found = input.get(name)
        return str(Path(found if isinstance(found, str) else found[0]).parents[levels - 1])

    return find


def folders(name):
    """Directories of the trained models whose files are the inputs of a name."""

    def find(wildcards, input):
        return list(dict.fromkeys(str(Path(path).parent) for path in input.get(name)))

    return find


wildcard_constraints:
    dataset="|".join(STUDY.datasets),
    task="|".join([*STUDY.tasks, *STUDY.other_tasks]) or "none",
    shard=r"\d{3}",
    fold=r"\d+",
    seed=r"\d+",
    modality="fmri|eeg",
    domain="temporal|spatial|spectral",
    control=r"(permuted|random)-\d+",
    variant="[a-z]+-[A-Za-z0-9-]+|scratch|tfc",
    rival="[a-z_]+",


def figures(*kinds):
    """Output files of figures: vectors, bitmap, source data, caption. The SVG goes into Snakemake's report."""
    found = []
    for kind, about in ((kind, ALL_FIGURES[kind]) for kind in kinds):
        stem = f"{R}/figures/{kind}" + ("-{task}" if about.per_task else "")
        labels = {"task": "{task}" if about.per_task else "all", "view": about.view}
        caption = f"../report/{kind.replace('-', '_')}.rst"
        found.append(report(f"{stem}.svg", category=about.category, caption=caption, labels=labels))
        found += [f"{stem}{suffix}" for suffix in (".pdf", ".png", ".tsv", ".json", ".caption.txt")]
    return found


def keyed(wildcards, input):
    """Named inputs as --file=NAME=PATH."""
    given = {name: [files] if isinstance(files, str) else files for name, files in input.items()}
    return [f"--file={name}={path}" for name, paths in given.items() for path in paths]
