"""Phenotype tables as the cohorts publish them: column names, codes, oddities."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mcsp.bids.cohort import same_people
from mcsp.bids.contents import shard_hashes
from mcsp.bids.listing import describe, list_subjects
from mcsp.bids.phenotype import absent, person, read_phenotype, read_text, used_columns
from mcsp.errors import McspError
from mcsp.options.datasets import BidsDataset, Phenotype
from mcsp.shards import plain_label, shard_of
from mcsp.study import parse_study, read_yaml
from mcsp.workflow import load_plan
from tests.conftest import PROJECT


def cohort(study: str, name: str) -> Phenotype:
    """How a ready study file reads a cohort's tables."""
    return parse_study(read_yaml(PROJECT / f"config/studies/{study}.yaml")).datasets[name].phenotype


def told(phenotype: Phenotype, **cells: str) -> tuple[dict, str | None]:
    return person(pd.Series(cells), phenotype, "d")


def described(root: Path, phenotype: Phenotype, label: str) -> tuple[dict, str | None]:
    """What ingestion says of a subject with a directory in `root`."""
    (root / f"sub-{label}").mkdir(exist_ok=True)
    return describe(list_subjects("d", BidsDataset(kind="bids", path=str(root), phenotype=phenotype), root), label)


# ---- the cohorts' codes


def abide_row(**cells: str) -> dict:
    row = {"SUB_ID": "50002", "SITE_ID": "PITT", "AGE_AT_SCAN": "16.77", "SEX": "1", "DX_GROUP": "1", "DSM_IV_TR": "1"}
    return {**row, "HANDEDNESS_CATEGORY": "-9999", "FIQ": "103.0", "CURRENT_MED_STATUS": "0", **cells}


def test_abide():
    phenotype = cohort("abide", "abide1")
    fields, reason = told(phenotype, **abide_row())
    assert reason is None
    assert fields == {
        "site": "PITT", "age": 16.77, "sex": "M", "handedness": None, "iq": 103.0, "medication": "no", "family": None,
        "labels": "ASD",
    }  # fmt: skip
    fields, _ = told(phenotype, **abide_row(DX_GROUP="2", SEX="2", HANDEDNESS_CATEGORY="Mixed", FIQ="-9999.0"))
    assert (fields["labels"], fields["sex"], fields["handedness"]) == ("control", "F", "A")
    assert np.isnan(fields["iq"])
    # ABIDE I holds a stray '`' as medication status.
    assert told(phenotype, **abide_row(CURRENT_MED_STATUS="`", HANDEDNESS_CATEGORY=""))[0]["medication"] is None


def test_abide_of_the_real_table(real_data, tmp_path):
    """547 subjects of the distributed table: every code has a meaning, or is known to have none."""
    import tarfile

    with tarfile.open(real_data / "abide_pcp.tar.xz") as tar:
        member = next(m for m in tar if m.name.endswith(".csv"))
        table = tmp_path / "Phenotypic_V1_0b_preprocessed1.csv"
        table.write_bytes(tar.extractfile(member).read())
    phenotype = cohort("abide", "abide1")
    rows = read_phenotype([table], phenotype)
    people = [person(row, phenotype, "d") for _, row in rows.iterrows()]
    assert {reason for _, reason in people} == {None}
    found = pd.DataFrame(fields for fields, _ in people)
    assert found["labels"].value_counts().to_dict() == {"control": 296, "ASD": 251}
    assert found["sex"].value_counts().to_dict() == {"M": 434, "F": 113}
    assert found["handedness"].value_counts().to_dict() == {"R": 297, "L": 38, "A": 8}
    assert found["medication"].value_counts().to_dict() == {"no": 374, "yes": 75}
    assert found["iq"].dropna().between(40, 160).all()
    assert found["age"].between(5, 70).all()


def adhd_row(**cells: str) -> dict:
    row = {"ScanDir ID": "1056121", "Site": "1", "Gender": "1", "Age": "13.92", "Handedness": "1", "DX": "0"}
    return {**row, "Full2 IQ": "N/A", "Full4 IQ": "135", "Med Status": "1", **cells}


def test_adhd200():
    phenotype = cohort("adhd200", "adhd200")
    fields, reason = told(phenotype, **adhd_row())
    assert reason is None
    assert fields == {
        "site": "Peking", "age": 13.92, "sex": "M", "handedness": "R", "iq": 135.0, "medication": "no", "family": None,
        "labels": "control",
    }  # fmt: skip
    assert {told(phenotype, **adhd_row(DX=code))[0]["labels"] for code in "123"} == {"ADHD"}
    # The withheld test set stays for pre-training; an odd code is no label and is said.
    assert told(phenotype, **adhd_row(DX="pending")) == (fields | {"labels": ""}, None)
    assert (
        told(phenotype, **adhd_row(DX="7"))[1] == "label DX=7 is not in the study's map: add it to datasets.d.phenotype.labels"
    )
    fields, _ = told(phenotype, **adhd_row(**{"Full4 IQ": "-999", "Full2 IQ": "99", "Med Status": "86", "Gender": "0"}))
    assert (fields["iq"], fields["medication"], fields["sex"]) == (99.0, None, "F")


def test_adhd200_of_the_real_table(real_data, tmp_path):
    phenotype = cohort("adhd200", "adhd200")
    table = tmp_path / "phenotypic" / "Peking_1_phenotypic.csv"
    table.parent.mkdir()
    table.write_bytes((real_data / "adhd200_athena_sample" / "Peking_1_phenotypic.csv").read_bytes())
    rows = read_phenotype([table], phenotype)
    people = [person(row, phenotype, "d") for _, row in rows.iterrows()]
    assert {reason for _, reason in people} == {None}
    labels = pd.Series([fields["labels"] for fields, _ in people])
    raw = rows["DX"].map(lambda code: "control" if code == "0" else "ADHD")
    assert labels.tolist() == raw.tolist()
    assert {fields["site"] for fields, _ in people} == {"Peking"}


def hbn_row(*diagnoses: str, **cells: str) -> dict:
    stem = "Diagnosis_ClinicianConsensus,DX"
    row = {f"{stem}_{i:02d}": "" for i in range(1, 11)}
    row |= {f"{stem}_{i:02d}_Cat": "Neurodevelopmental Disorders" for i in range(1, 11)}
    row |= {f"{stem}_{i:02d}_RuleOut": "0" for i in range(1, 11)}
    row |= {f"{stem}_{i:02d}": text for i, text in enumerate(diagnoses, start=1)}
    demos = {"Basic_Demos,Sex": "1", "Basic_Demos,Age": "9.5", "Basic_Demos,Study_Site": "4", "ehq_total": "-60"}
    return {"Identifiers": "NDARAA075AMK,assessment", **row, **demos, **cells}


@pytest.mark.parametrize(
    ("diagnoses", "labels"),
    [
        (["No Diagnosis Given"], "control"),
        (["No Diagnosis Given: Incomplete Eval"], ""),
        (["ADHD-Combined Type"], "ADHD"),
        (["Other Specified Attention-Deficit/Hyperactivity Disorder"], "ADHD"),
        (["Specific Learning Disorder with Impairment in Reading", "ADHD-Inattentive Type"], "ADHD;other"),
        (["Autism Spectrum Disorder", "ADHD-Combined Type", "Enuresis"], "ADHD;ASD;other"),
        (["Major Depressive Disorder"], "MDD"),
        (["Generalized Anxiety Disorder"], "other"),
        ([], ""),
    ],
)
def test_hbn_diagnoses(diagnoses, labels):
    fields, reason = told(cohort("hbn", "hbn"), **hbn_row(*diagnoses))
    assert reason is None
    assert fields["labels"] == labels


def test_hbn_rule_out_is_no_diagnosis():
    ruled_out = {"Diagnosis_ClinicianConsensus,DX_02_RuleOut": "1"}
    row = hbn_row("ADHD-Combined Type", "Autism Spectrum Disorder", **ruled_out)
    fields, _ = told(cohort("hbn", "hbn"), **row)
    assert (fields["labels"], fields["sex"], fields["handedness"], fields["age"]) == ("ADHD", "F", "L", 9.5)
    alone = hbn_row("Autism Spectrum Disorder", **{"Diagnosis_ClinicianConsensus,DX_01_RuleOut": "1"})
    assert told(cohort("hbn", "hbn"), **alone)[0]["labels"] == ""  # neither a case nor a control


def test_hbn_tables_are_joined(tmp_path):
    """LORIS' exports with their second row of descriptions and ',assessment', and the public table of an EEG release."""
    stem = "Diagnosis_ClinicianConsensus,DX_01"
    consensus = pd.DataFrame(
        {"Identifiers": ["a text on this", "NDARA,assessment"], stem: ["Diagnosis 1", "ADHD-Combined Type"]}
    )
    demos = pd.DataFrame({"Identifiers": ["a text on this", "NDARA,assessment"]})
    demos = demos.assign(
        **{"Basic_Demos,Sex": ["0= Male", "0"], "Basic_Demos,Age": ["", "8.25"], "Basic_Demos,Study_Site": "1"}
    )
    public = pd.DataFrame({"participant_id": ["sub-NDARA", "sub-NDARB"], "ehq_total": ["77.7", "n/a"], "sex": ["M", "F"]})
    (tmp_path / "sourcedata/R1").mkdir(parents=True)
    consensus.to_csv(tmp_path / "dx.csv", index=False)
    demos.to_csv(tmp_path / "demos.csv", index=False)
    public.to_csv(tmp_path / "sourcedata/R1/participants.tsv", sep="\t", index=False)
    tables = [str(tmp_path / "dx.csv"), str(tmp_path / "demos.csv"), str(tmp_path / "sourcedata/*/participants.tsv")]
    phenotype = cohort("hbn", "hbn").model_copy(update={"table": tables})
    fields, reason = described(tmp_path, phenotype, "NDARA")
    assert reason is None
    assert (fields["labels"], fields["sex"], fields["age"], fields["handedness"]) == ("ADHD", "M", 8.25, "R")
    fields, reason = described(tmp_path, phenotype, "NDARB")  # public data only
    assert (fields["labels"], reason) == ("", None)
    assert sorted(read_phenotype(phenotype.tables(tmp_path), phenotype)["_subject"].unique()) == ["NDARA", "NDARB"]


def test_embarc_tables_of_nda(tmp_path):
    """A second row of descriptions, months, and values in the study's own words."""
    header = "subjectkey\tsrc_subject_id\tinterview_age\tsex\tphenotype\tsite"
    descriptions = (
        "The GUID\tSubject ID how it's defined in lab\tAge in months\tSex of the subject\tPhenotype of the subject\tSite"
    )
    rows = [
        "NDAR1\tCU0001\t450\tF\tMajor Depression\tCU",
        "NDAR2\tCU0002\t402\tM\tHealthy Control\tCU",
        "NDAR3\tCU0003\t300\tF\tBipolar\tCU",
    ]
    table = tmp_path / "ndar_subject01.txt"
    table.write_text("\n".join([header, descriptions, *rows]) + "\n")
    phenotype = cohort("embarc", "embarc").model_copy(update={"table": str(table)})
    fields, reason = described(tmp_path, phenotype, "CU0001")
    assert (fields["labels"], fields["age"], fields["sex"], reason) == ("MDD", 37.5, "F", None)
    assert described(tmp_path, phenotype, "CU0002")[0]["labels"] == "control"
    assert described(tmp_path, phenotype, "CU0003")[1].startswith("label phenotype=Bipolar is not in the study's map")
    assert "The GUID" not in set(read_phenotype([table], phenotype)["subjectkey"])


def test_abide2_of_the_sites_tables(tmp_path):
    """Names with blanks behind them, latin letters, one table per site."""
    for site, row in {
        "ABIDEII-NYU_1": "29177\tABIDEII-NYU_1\t1\t9.1\t1\t112",
        "ABIDEII-IU_1": "29553\tABIDEII-IU_1\t2\t22\t2\t",
    }.items():
        folder = tmp_path / "sourcedata" / site
        folder.mkdir(parents=True)
        header = "participant_id\tsite_id\tdx_group\tage_at_scan \tsex\tfiq\tnote"
        (folder / "participants.tsv").write_bytes(f"{header}\n{row}\t".encode() + "é\n".encode("latin-1"))
    phenotype = cohort("abide", "abide2").model_copy(update={"table": str(tmp_path / "sourcedata/*/participants.tsv")})
    fields, reason = described(tmp_path, phenotype, "29177")
    assert (fields["labels"], fields["age"], fields["sex"], fields["iq"], reason) == ("ASD", 9.1, "M", 112.0, None)
    assert described(tmp_path, phenotype, "29553")[0]["labels"] == "control"


def test_adhd200_of_the_sites_tables(tmp_path):
    """BIDS tables in words, also for the test set, beside the competition's tables in codes; the site is the folder."""
    header = "participant_id\tgender\tage\thandedness\tdx\tfull4_iq\tmed_status"
    rows = {
        "Peking_2": ["1050975\tMale\t13.2\tRight\tADHD-Inattentive\t99\tMedication Naive"],
        "NYU": ["21009\tFemale\t9.5\t0.67\tTypically Developing Children\tn/a\tNot Medication Naive"] * 2,
        "Brown": ["0026001\tFemale\t11\tAmbidextrous\tn/a\t101\tn/a"],
    }
    for site, lines in rows.items():
        (tmp_path / "sourcedata" / site).mkdir(parents=True)
        (tmp_path / "sourcedata" / site / "participants.tsv").write_text("\n".join([header, *lines]) + "\n")
    (tmp_path / "phenotypic").mkdir()
    codes = "ScanDir ID,Site,Gender,Age,Handedness,DX,Full4 IQ,Full2 IQ,Med Status"
    test_release = "21009,5,0,9.5,0.67,pending,-999,-999,-999\n9000001,4,1,12,1,1,-999,88,1"
    (tmp_path / "phenotypic/NYU_TestRelease_phenotypic.csv").write_text(f"{codes}\n{test_release}\n")
    tables = [f"{tmp_path}/sourcedata/*/participants.tsv", f"{tmp_path}/phenotypic/*_phenotypic.csv"]
    phenotype = cohort("adhd200", "adhd200").model_copy(update={"table": tables})
    found = {label: described(tmp_path, phenotype, label) for label in ("1050975", "0021009", "0026001", "9000001")}
    assert {reason for _, reason in found.values()} == {None}
    told = {
        label: [fields[n] for n in ("site", "labels", "sex", "handedness", "medication")]
        for label, (fields, _) in found.items()
    }
    assert told == {
        "1050975": ["Peking_2", "ADHD", "M", "R", "no"],
        "0021009": ["NYU", "control", "F", None, "yes"],
        "0026001": ["Brown", "", "F", "A", None],
        "9000001": ["NeuroIMAGE", "ADHD", "M", "R", "no"],
    }
    assert found["9000001"][0]["iq"] == 88


def test_abide2_of_nitrc_s_table(tmp_path):
    """The release's whole table, for a site that has none in the bucket: capital letters, codes of its legend."""
    (tmp_path / "phenotypic").mkdir()
    header = "SITE_ID,NDAR_GUID,SUB_ID,DX_GROUP,PDD_DSM_IV_TR,AGE_AT_SCAN ,SEX,HANDEDNESS_CATEGORY,FIQ,CURRENT_MED_STATUS"
    rows = "ABIDEII-ETH_1,,29057,2,0,22.3,1,1,118,0\nABIDEII-ETH_1,,29058,1,2,17,2,3,,1"
    table = tmp_path / "phenotypic/ABIDEII_Composite_Phenotypic.csv"
    table.write_bytes(f"{header}\n{rows}\n".encode("cp1252"))
    tables = [f"{tmp_path}/sourcedata/*/participants.tsv", f"{tmp_path}/phenotypic/ABIDEII_*Composite_Phenotypic.csv"]
    phenotype = cohort("abide", "abide2").model_copy(update={"table": tables})
    fields, reason = described(tmp_path, phenotype, "29057")
    assert reason is None
    assert fields == {
        "site": "ABIDEII-ETH_1", "age": 22.3, "sex": "M", "handedness": "R", "iq": 118.0, "medication": "no", "family": None,
        "labels": "control",
    }  # fmt: skip
    fields, _ = described(tmp_path, phenotype, "29058")
    assert (fields["labels"], fields["handedness"], fields["medication"]) == ("ASD", "A", "yes")


def test_abide_subtypes_on_the_real_table(real_data, tmp_path):
    """What the cohort's card says of DSM_IV_TR: as labels of their own, whoever it tells nothing of is left out."""
    import tarfile

    with tarfile.open(real_data / "abide_pcp.tar.xz") as tar:
        member = next(m for m in tar if m.name.endswith(".csv"))
        (tmp_path / "p.csv").write_bytes(tar.extractfile(member).read())
    names = {"0": ["control"], "1": ["autism"], "2": ["Asperger"], "3": ["PDD-NOS"], "4": ["Asperger-or-PDD-NOS"]}
    phenotype = cohort("abide", "abide1").model_copy(update={"labels": {"DSM_IV_TR": names}})
    rows = read_phenotype([tmp_path / "p.csv"], phenotype)
    people = [person(row, phenotype, "d") for _, row in rows.iterrows()]
    assert {reason for _, reason in people if reason} <= {
        "no label: column DSM_IV_TR of the phenotype table is empty for this subject"
    }
    labels = pd.Series([fields["labels"] for fields, reason in people if reason is None])
    told = rows["DSM_IV_TR"].map(lambda text: text.removesuffix(".0"))
    assert (
        labels.value_counts().to_dict()
        == told[told.isin(list(names))].map(lambda code: names[code][0]).value_counts().to_dict()
    )


# ---- the options


def test_the_site_s_directory_is_part_of_what_a_shard_holds(tmp_path):
    """Where the directory's name is the site, another name is another site: the shard is ingested anew."""

    def hashes(**options) -> list[str]:
        phenotype = {"table": f"{tmp_path}/sites/*/p.tsv", **options}
        return shard_hashes(BidsDataset(kind="bids", path=str(tmp_path), n_shards=2, phenotype=phenotype))

    (tmp_path / "sites/A").mkdir(parents=True)
    (tmp_path / "sites/A/p.tsv").write_text("participant_id\tDX\tDX \n1\t0\t1\n")
    sited, plain = hashes(site="{folder}"), hashes()
    (tmp_path / "sites/A").rename(tmp_path / "sites/B")
    assert [a == b for a, b in zip(sited, hashes(site=["{folder}", "x"]))].count(False) == 1
    assert hashes() == plain
    (tmp_path / "sites/B/p.tsv").write_text("participant_id\tDX\tDX \n1\t2\t1\n")  # the first of two columns of a name
    assert [a == b for a, b in zip(plain, hashes())].count(False) == 1


@pytest.mark.parametrize("header", ["participant id\tparticipant_id", "participant id\tparticipant_id ", "Participant_ID\tx"])
def test_shards_are_told_apart_by_the_column_that_is_read(header, tmp_path):
    """Of columns with one name, the same one says whose row it is when it is read and when it is looked for changes."""
    phenotype, n_shards = Phenotype(table=str(tmp_path / "p.tsv")), 3

    def hashes(*rows: tuple[str, str]) -> list[str]:
        (tmp_path / "p.tsv").write_text("".join(f"{line}\n" for line in (header, *map("\t".join, rows))))
        return shard_hashes(BidsDataset(kind="bids", path=str(tmp_path), n_shards=n_shards, phenotype=phenotype))

    before, after = hashes(("a", "b")), hashes(("a", "b"), ("c", "a"))
    who = read_phenotype([tmp_path / "p.tsv"], phenotype)["_subject"].iloc[1]
    assert [n for n in range(n_shards) if before[n] != after[n]] == [shard_of(who, n_shards)]


def test_names_of_columns_are_compared_without_case_and_blanks(tmp_path):
    (tmp_path / "a.tsv").write_text("participant_id\tDX \tFull4_IQ\tAGE\n1\tx\t99\t7\n")
    (tmp_path / "b.tsv").write_text("Participant ID\tdx\tfull4 iq\tage\tDX\n2\ty\t98\t8\tz\n")
    phenotype = Phenotype(iq=["Full4 IQ"], labels={"dx": {"x": ["ASD"], "y": ["control"]}})
    rows = read_phenotype([tmp_path / "a.tsv", tmp_path / "b.tsv"], phenotype)
    assert rows[["_subject", "dx", "Full4 IQ", "age"]].to_numpy().tolist() == [["1", "x", "99", "7"], ["2", "y", "98", "8"]]


@pytest.mark.parametrize(
    ("header", "wanted", "found"),
    [
        ("id\tdx\tDX ", "DX", "second"),  # the one that is written so
        ("id\tdx\tDX ", "Dx", "first"),
        ("id\tDX \tDX", "DX", "second"),
        ("id\t DX\tDX ", "DX", "first"),
        ("id\tDX\tDX", "DX", "first"),
    ],
)
def test_of_columns_with_one_name_one_counts(header, wanted, found, tmp_path):
    (tmp_path / "t.tsv").write_text(f"{header}\n1\tfirst\tsecond\n")
    phenotype = Phenotype(subject="id", labels={wanted: {"first": ["first"], "second": ["second"]}})
    rows = read_phenotype([tmp_path / "t.tsv"], phenotype)
    assert rows.columns.is_unique
    assert person(rows.iloc[0], phenotype, "d")[0]["labels"] == found


def test_names_with_wildcards_are_compared_the_same_way():
    phenotype = Phenotype(labels={"dx_??": {"ADHD": ["ADHD"]}}, ignore={"{column}_RuleOut": ["1"]}, unlabelled="keep")
    cells = {"DX 01": "ADHD", "DX 01 ruleout": "0"}
    assert told(phenotype, **cells)[0]["labels"] == "ADHD"
    assert told(phenotype, **{**cells, "DX 01 ruleout": "1"})[0]["labels"] == ""
    assert used_columns(phenotype, list(cells)) == list(cells)


def test_what_is_only_carried_may_be_missing(tmp_path):
    (tmp_path / "t.csv").write_text("id,iq\n1,99\n")
    phenotype = Phenotype(subject="id", iq=["FIQ", "iq"], handedness="hand", medication="med")
    rows = read_phenotype([tmp_path / "t.csv"], phenotype)
    assert absent(phenotype, list(rows)) == {"handedness": ["hand"], "medication": ["med"]}
    fields, reason = told(phenotype, **rows.iloc[0])
    assert (fields["iq"], fields["handedness"], reason) == (99.0, None, None)


@pytest.mark.parametrize(
    ("name", "header", "told"),
    [
        ("a.tsv", "id,age", r"a\.tsv: one column only, are cells separated by commas\? BIDS wants tabs"),
        ("a.tsv", "id;age", "separated by semicolons"),
        ("a.csv", "id;age", r"separated by semicolons\? a \.csv has commas"),
        ("a.csv", "id\tage", "separated by tabs"),
        ("a.tsv", "id", None),
    ],
)
def test_other_separators_are_told(tmp_path, name, header, told):
    (tmp_path / name).write_text(f"{header}\n1{header[2:3]}2\n")
    if told is None:
        assert list(read_text(tmp_path / name)) == ["id"]
        return
    with pytest.raises(McspError, match=told):
        read_text(tmp_path / name)


def test_wildcards_that_fit_nothing_are_passed_over(tmp_path):
    (tmp_path / "a.csv").write_text("id\n1\n")
    phenotype = Phenotype(table=[f"{tmp_path}/a.csv", f"{tmp_path}/x*.csv"], subject="id")
    assert phenotype.tables(tmp_path) == [tmp_path / "a.csv"]
    alone = Phenotype(table=f"{tmp_path}/x*.csv", subject="id")
    with pytest.raises(McspError, match=r"x\*\.csv: not there: fetch the dataset, put its phenotype table there"):
        read_phenotype(alone.tables(tmp_path), alone)


def test_rows_that_where_leaves(tmp_path):
    table = tmp_path / "visits.csv"
    table.write_text("id,visit,dx,age\n1,baseline,ASD,10\n1,week8,TD,11\n2,week8,TD,12\n3,baseline,TD,9\n")
    labels = {"dx": {"ASD": ["ASD"], "TD": ["control"]}}
    phenotype = Phenotype(table=str(table), subject="id", where={"visit": ["baseline"]}, labels=labels)
    assert described(tmp_path, phenotype, "1")[0]["labels"] == "ASD"
    assert described(tmp_path, phenotype, "2")[1] == "visit=week8 is not in phenotype.where"
    every = phenotype.model_copy(update={"where": {}})
    assert described(tmp_path, every, "1")[1] == "2 rows in the phenotype table that disagree: keep one"


def test_the_first_table_that_knows_counts(tmp_path):
    (tmp_path / "a.csv").write_text("id,age,sex\n1,10.5,n/a\n")
    (tmp_path / "b.csv").write_text("id,age,sex,iq\n1,10.9,F,99\n2,7,M,101\n")
    tables = [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]
    phenotype = Phenotype(table=tables, subject="id", iq=["iq"])
    fields, reason = described(tmp_path, phenotype, "1")
    assert (fields["age"], fields["sex"], fields["iq"], reason) == (10.5, "F", 99.0, None)
    assert described(tmp_path, phenotype, "2")[0]["age"] == 7.0


def test_a_missing_value_never_fits_a_wildcard():
    phenotype = Phenotype(labels={"dx": {"*": ["other"]}})
    assert told(phenotype, dx="-999")[1] == "no label: column dx of the phenotype table is empty for this subject"
    assert told(phenotype, dx="ODD")[0]["labels"] == "other"
    named = Phenotype(labels={"dx": {"-999": ["control"], "*": ["other"]}})
    assert told(named, dx="-999")[0]["labels"] == "control"


def test_the_order_of_wildcards_does_not_matter():
    """Rules are handed options as JSON with sorted keys, where '*' comes first."""
    mapping = {"*": ["other"], "ADHD*": ["ADHD"], "*deficit*": ["ADHD"], "Autism Spectrum Disorder*": ["ASD"]}
    for order in (sorted(mapping), sorted(mapping, reverse=True)):
        phenotype = Phenotype(labels={"dx": {key: mapping[key] for key in order}})
        found = [
            told(phenotype, dx=text)[0]["labels"] for text in ("ADHD-Combined Type", "Autism Spectrum Disorder", "Enuresis")
        ]
        assert found == ["ADHD", "ASD", "other"]


def test_wildcards_that_contradict_each_other_are_no_choice():
    """Neither length nor order decides; '*' is the rest, and the value itself, in whatever case, goes before wildcards."""
    mapping = {"*depress*": ["MDD"], "*control*": ["control"], "*ctrl*": ["control"], "MDD?": ["MDD"]}
    mapping |= {"MDD2": ["other"], "*": []}
    phenotype = Phenotype(labels={"dx": mapping})
    reason = "label dx={} fits {} of the study's map, which mean different labels: add it to datasets.d.phenotype.labels"
    for value, keys in (
        ("Never depressed control", "'*control*' and '*depress*'"),
        ("depressed ctrl", "'*ctrl*' and '*depress*'"),  # as long as each other
    ):
        assert told(phenotype, dx=value)[1] == reason.format(value, keys)
        named = Phenotype(labels={"dx": {**mapping, value.upper(): ["control"]}})
        fields, why = told(named, dx=value)
        assert (fields["labels"], why) == ("control", None)
    found = [told(phenotype, dx=value)[0]["labels"] for value in ("Depressed", "ctrl (control)", "MDD1", "mdd2", "ADHD")]
    assert found == ["MDD", "control", "MDD", "other", ""]


def test_embarc_s_words_are_read_from_their_beginning():
    plan = load_plan(PROJECT / "config/studies/embarc.yaml", PROJECT / "results")
    phenotype = BidsDataset.model_validate_json(plan.dataset_options("embarc")).phenotype
    cases, controls = ["MDD", "major depressive disorder"], ["Healthy Control", "CONTROL", "Never depressed control"]
    found = [person(pd.Series({"phenotype": value}), phenotype, "embarc")[0]["labels"] for value in (*cases, *controls)]
    assert found == ["MDD"] * 2 + ["control"] * 3
    for value in ("Never depressed", "no MDD", "MDD control", "Uncontrolled", "unhealthy"):
        assert f"label phenotype={value} " in person(pd.Series({"phenotype": value}), phenotype, "embarc")[1]


def test_hbn_as_the_rules_are_handed_it():
    """The study's options by the way that Snakemake's rules get them."""
    plan = load_plan(PROJECT / "config/studies/hbn.yaml", PROJECT / "results")
    phenotype = BidsDataset.model_validate_json(plan.dataset_options("hbn")).phenotype
    fields, _ = told(phenotype, **hbn_row("Specific Learning Disorder with Impairment in Reading", "ADHD-Inattentive Type"))
    assert fields["labels"] == "ADHD;other"
    assert told(phenotype, **hbn_row("Major Depressive Disorder"))[0]["labels"] == "MDD"


def test_columns_that_decide():
    phenotype = Phenotype(labels={"DX_?": {"*": ["x"]}}, ignore={"{column}_no": ["1"]}, site="s")
    assert used_columns(phenotype, ["s", "DX_1", "DX_1_no", "other", "age"]) == ["s", "age", "DX_1", "DX_1_no"]


def test_columns_that_are_not_there_are_named(tmp_path):
    (tmp_path / "t.csv").write_text("id,age\n1,2\n")
    for phenotype, words in [
        (Phenotype(subject=["x", "y"]), r"t\.csv: no column x \(it has id, age\)"),
        (Phenotype(subject="id", labels={"DX_??": {"*": ["x"]}}), r"no column DX_\?\? \(it has id, age\)"),
        (Phenotype(subject="id", site="SITE"), "no column SITE"),
        (Phenotype(subject="id", family="FAM"), "no column FAM"),
        (Phenotype(subject="id", where={"qc": ["1"]}), "no column qc"),
    ]:
        with pytest.raises(McspError, match=words):
            read_phenotype([tmp_path / "t.csv"], phenotype)


def test_handedness_by_quotient():
    phenotype = Phenotype(handedness="ehq", right_from=40)
    found = [told(phenotype, ehq=text)[0]["handedness"] for text in ("100", "40", "39.9", "-40", "-100", "n/a", "left")]
    assert found == ["R", "R", "A", "L", "L", None, "L"]


def test_labels_of_loris():
    assert plain_label("NDARAA075AMK,assessment") == plain_label("sub-NDARAA075AMK")


def test_people_who_stand_in_two_datasets_count_once():
    people = pd.DataFrame(
        {
            "uid": ["one/sub-1", "two/sub-1", "two/sub-2", "three/sub-1"],
            "person": ["abide:1", "abide:1", "abide:2", "three/sub-1"],
            "labels": ["", "ASD", "control", "ASD"],
            "has_fmri": True,
            "has_eeg": False,
        }
    )
    lines = same_people(people)
    assert [(line[0], line[-1]) for line in lines] == [("one/sub-1", "same person as two/sub-1, by the label (option people)")]
