"""Snakemake's own report, called for a study file anywhere."""

import pytest

from mcsp.errors import McspError
from mcsp.report.snakemake import run


@pytest.mark.parametrize("source", ["mine.yaml", "config/studies/mine.yaml", "../elsewhere/mine.yaml"])
def test_snakemake_reads_the_study_wherever_its_file_lies(source, tmp_path, capsys):
    snakefile = tmp_path / "Snakefile"
    snakefile.write_text("print(config['study'], config['seed'])\nraise ValueError('no rules')\n")
    with pytest.raises(McspError, match="Snakemake wrote no report"):
        run(snakefile=snakefile, study={"study": "mine", "seed": 7}, source=source, out=tmp_path / "report.html")
    assert "mine 7" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["Snakefile"]
