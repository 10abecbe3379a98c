"""Pre-training: it learns, it never sees test subjects, its seed decides everything, and it goes on after a kill."""

import json
import shutil

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open

from mcsp.cohort import store_path
from mcsp.errors import McspError
from mcsp.evaluation.splits import load_splits, part
from mcsp.model.batch import best_device
from mcsp.options.training import EngineOptions, LossOptions, PretrainOptions
from mcsp.store import Store, StoreWriter, read_table, read_tsv
from mcsp.training import embed, engine, pretrain
from mcsp.training.embed import ranks, retrieval, searches
from tests.conftest import lose_region


def train(study, frozen, options, out, fold=0):
    pretrain.run(
        stores=study.stores, cohort=study.cohort, splits=frozen, fold=fold, options=options, threads=1,
        out=out, history=out / "history.tsv",
    )  # fmt: skip
    return (out / "model.safetensors").read_bytes()


def disturb(study, uids):
    """Replace the recordings of these subjects by noise, in every store."""
    for dataset in ("both", "mri", "cap"):
        for path in (study.stores / dataset).glob("*/*/shard-000.arrow"):
            store = Store(path)
            rows = [(uid, np.array(store.row(i)), store.n_valid[i]) for i, uid in enumerate(store.uids)]
            rng = np.random.default_rng(0)
            with StoreWriter(path, store.shape, store.meta) as writer:
                for uid, row, n in rows:
                    writer.add(uid, rng.normal(size=row.shape) if uid in uids else row, n)


def test_losses_fall_and_everything_is_recorded(stored_study, frozen, options, tmp_path):
    train(stored_study, frozen, options, tmp_path / "a")
    history = read_tsv(tmp_path / "a/history.tsv")
    total = history[history["split"] == "train"]["total"].to_numpy()
    assert len(total) == options.epochs
    assert total[-1] < total[0]
    assert {"id_fmri", "id_eeg", "cd_fmri", "cd_eeg", "im_spatial", "cm_temporal", "kd_fmri", "total"} <= set(history)
    assert set(history["split"]) == {"train", "val"}
    config = json.loads((tmp_path / "a/config.json").read_text())
    assert config["scope"] == "inductive"
    assert config["n_subjects"] == len(part(load_splits(frozen), 0, "train"))
    assert not (tmp_path / "a/checkpoints").exists()


def test_same_seed_same_bytes_other_seed_other_weights(stored_study, frozen, options, tmp_path):
    first = train(stored_study, frozen, options, tmp_path / "a")
    assert train(stored_study, frozen, options, tmp_path / "b") == first
    assert train(stored_study, frozen, options.model_copy(update={"seed": 1}), tmp_path / "c") != first


def test_test_subjects_leave_no_trace_in_an_inductive_model(stored_study, frozen, options, tmp_path):
    before = train(stored_study, frozen, options, tmp_path / "a")
    test = part(load_splits(frozen), 0, "test")
    disturb(stored_study, set(test))
    assert train(stored_study, frozen, options, tmp_path / "b") == before
    seen = options.model_copy(update={"scope": "transductive"})
    assert train(stored_study, frozen, seen, tmp_path / "c") != before
    assert json.loads((tmp_path / "c/config.json").read_text())["scope"] == "transductive"


def test_batches_are_drawn_anew_in_each_epoch_and_validated_on_the_same(stored_study, frozen, options, tmp_path, monkeypatch):
    seen = {"train": [], "val": []}
    original = pretrain.Pretraining.losses

    def spy(self, batch, seed):
        part = "train" if self.training else "val"
        seen[part].append((self.current_epoch, float(sum(x.double().sum() for x in batch.x.values()))))
        return original(self, batch, seed)

    monkeypatch.setattr(pretrain.Pretraining, "losses", spy)
    train(stored_study, frozen, options.model_copy(update={"epochs": 3}), tmp_path)
    epochs = [sorted(round(v, 3) for e, v in seen["train"] if e == k) for k in range(3)]
    assert len(epochs[0]) > 1
    assert epochs[0] != epochs[1] != epochs[2]
    assert sum(epochs[0]) == pytest.approx(sum(epochs[1]), rel=1e-4)  # the same subjects
    validated = [[v for e, v in seen["val"] if e == k] for k in range(3)]
    assert validated[0] == validated[1] == validated[2]


def test_a_terms_mean_is_over_the_subjects_behind_it(stored_study, frozen, options, tmp_path):
    still = options.model_copy(update={"epochs": 1, "lr": 1e-12, "batch_size": 200})
    train(stored_study, frozen, still, tmp_path)
    row = read_tsv(tmp_path / "history.tsv").query("split == 'train'").iloc[0]
    n = (read_table(stored_study.cohort)["has_fmri"] & read_table(stored_study.cohort)["has_eeg"]).sum()
    # untrained pairs cost about log(2n - 1); thinned by the subjects with one modality it would be a fraction of that
    assert row["cm_spatial"] > 0.6 * np.log(n)


def test_training_subjects_do_leave_a_trace(stored_study, frozen, options, tmp_path):
    """Without this, the test above could pass with a model that reads nothing."""
    before = train(stored_study, frozen, options, tmp_path / "a")
    disturb(stored_study, set(part(load_splits(frozen), 0, "train")[:1]))
    assert train(stored_study, frozen, options, tmp_path / "b") != before


def test_a_tampered_fold_table_is_refused(stored_study, frozen, options, tmp_path):
    frozen.write_text(frozen.read_text().replace("\ttest\t", "\ttrain\t", 1))
    with pytest.raises(McspError, match="changed since it was frozen"):
        train(stored_study, frozen, options, tmp_path / "a")


def test_no_epochs_is_no_pretraining(stored_study, frozen, options, tmp_path):
    none = options.model_copy(update={"epochs": 0})
    assert train(stored_study, frozen, none, tmp_path / "a") == train(stored_study, frozen, none, tmp_path / "b")
    assert len(read_tsv(tmp_path / "a/history.tsv")) == 0


@pytest.mark.parametrize("modality", ["fmri", "eeg"])
def test_one_modality_alone(stored_study, frozen, options, tmp_path, modality):
    model = options.model.model_copy(update={"modalities": [modality]})
    train(stored_study, frozen, options.model_copy(update={"model": model, "epochs": 1}), tmp_path / "a")
    config = json.loads((tmp_path / "a/config.json").read_text())
    assert {name.split("/")[0] for name in config["architecture"]["shapes"]} == {modality}


def test_a_cohort_without_the_wanted_modality_is_one_line(stored_study, frozen, tmp_path):
    for path in stored_study.stores.glob("*/eeg"):
        shutil.rmtree(path)
    from mcsp.store import read_table, write_table

    table = read_table(stored_study.cohort)
    write_table(table.assign(has_eeg=False), stored_study.cohort)
    options = PretrainOptions(epochs=0, model={"modalities": ["eeg"]})
    with pytest.raises(McspError, match="nobody in the cohort has eeg"):
        train(stored_study, frozen, options, tmp_path / "a")


def test_retrieval_of_equal_and_of_random_embeddings():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(50, 8))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    assert retrieval(ranks(z, z))["top1"] == 1
    chance = retrieval(ranks(z, np.zeros_like(z)))  # all tied: the middle rank, no luck
    assert chance["top1"] == 0
    others = [retrieval(ranks(z, rng.normal(size=z.shape)))["mrr"] for _ in range(200)]
    assert np.mean(others) == pytest.approx(chance["chance_mrr"], rel=0.1)


def test_searches_are_of_those_who_have_both_and_go_both_ways():
    rng = np.random.default_rng(0)
    z = {(m, "spatial"): rng.normal(size=(6, 4)) for m in ("fmri", "eeg")}
    has = {"fmri": np.arange(6) < 5, "eeg": np.arange(6) > 0}
    found = searches([f"d/{i}" for i in range(6)], z, has)
    assert set(found["uid"]) == {f"d/{i}" for i in range(1, 5)}
    assert (found["n"] == 4).all()
    asked = found[(found["query"] == "eeg") & (found["domain"] == "spatial")].set_index("uid")["rank"]
    by_hand = [1 + sum(z["fmri", "spatial"][j] @ z["eeg", "spatial"][2] > z["fmri", "spatial"][2] @ z["eeg", "spatial"][2]
                       for j in range(1, 5))]  # fmt: skip
    assert asked["d/2"] == by_hand[0]
    assert searches(["d/0"], z, {"fmri": has["fmri"]}).empty


def test_fused_embeddings_find_across_domains():
    """What fMRI shows in one domain and EEG in another is found by the mean direction, and not domain by domain."""
    who, mine, yours = np.split(np.eye(12), 3)
    z = {("fmri", "spatial"): who, ("fmri", "spectral"): mine, ("eeg", "spatial"): yours, ("eeg", "spectral"): who}
    found = searches(list("abcd"), z, {m: np.ones(4, bool) for m in ("fmri", "eeg")}).groupby("domain")["rank"].mean()
    assert found["fused"] == 1
    assert found["spatial"] > 1
    assert found["all"] > 1


def test_store_paths_are_those_of_the_fixture(stored_study):
    assert store_path(stored_study.stores, "both", "fmri", "spatial", 0).is_file()


def test_a_share_of_the_subjects_is_drawn_by_seed_and_nested():
    uids = [f"d/{i}" for i in range(40)]
    half, quarter = pretrain.drawn(uids, 0.5, 7), pretrain.drawn(uids, 0.25, 7)
    assert (len(half), len(quarter)) == (20, 10)
    assert set(quarter) < set(half)
    assert half == sorted(half, key=uids.index)
    assert pretrain.drawn(uids, 0.5, 8) != half
    assert pretrain.drawn(uids, 1.0, 7) == uids


def test_a_corpus_is_what_pretraining_learns_from(stored_study, frozen, options, tmp_path, monkeypatch):
    """Its scales and starts are those of all training subjects, so that nothing but the learning differs."""
    fed, honest = [], pretrain.make_feed

    def spy(subjects, batches, options):
        fed.append({uid.split("/")[0] for uid in subjects.uids})
        return honest(subjects, batches, options)

    monkeypatch.setattr(pretrain, "make_feed", spy)
    train(stored_study, frozen, options.model_copy(update={"epochs": 1, "corpus": ["mri", "cap"]}), tmp_path / "a")
    assert fed[-1] == {"mri", "cap"}  # those before validate
    config = json.loads((tmp_path / "a/config.json").read_text())
    whole = part(load_splits(frozen), 0, "train")
    assert config["n_subjects"] == sum(not uid.startswith("both/") for uid in whole) < len(whole)
    started = [train(stored_study, frozen, options.model_copy(update={"epochs": 0, "corpus": corpus}), tmp_path / name)
               for name, corpus in (("b", ["mri"]), ("c", None))]  # fmt: skip
    assert started[0] == started[1]
    with pytest.raises(McspError, match=r"fewer than two training subjects of nowhere: .* otherwise \(splits.protocol"):
        train(stored_study, frozen, options.model_copy(update={"corpus": ["nowhere"]}), tmp_path / "d")


def test_in_bf16_losses_are_finite_and_fall(stored_study, frozen, options, tmp_path, monkeypatch):
    seen, honest = set(), pretrain.Pretraining.losses

    def spy(self, batch, seed):
        kind = self.device.type
        seen.add(torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None)
        return honest(self, batch, seed)

    monkeypatch.setattr(pretrain.Pretraining, "losses", spy)
    train(stored_study, frozen, options.model_copy(update={"engine": EngineOptions(precision="bf16")}), tmp_path)
    assert seen == {torch.bfloat16}
    history = read_tsv(tmp_path / "history.tsv")
    assert np.isfinite(history.drop(columns=["epoch", "split"]).to_numpy(float)).all()
    total = history[history["split"] == "train"]["total"].to_numpy()
    assert total[-1] < total[0]


@pytest.mark.parametrize("deterministic", [True, False])
def test_the_engine_sets_deterministic_kernels_and_the_seed_decides(
    stored_study, frozen, options, tmp_path, monkeypatch, deterministic
):
    seen, honest = [], pretrain.Pretraining.training_step

    def spy(self, *a):
        warned = torch.is_deterministic_algorithms_warn_only_enabled()  # attention's backward pass would only warn
        seen.append(torch.are_deterministic_algorithms_enabled() and not warned)
        return honest(self, *a)

    monkeypatch.setattr(pretrain.Pretraining, "training_step", spy)
    own = options.model_copy(update={"epochs": 1, "engine": EngineOptions(deterministic=deterministic)})
    same = train(stored_study, frozen, own, tmp_path / "a") == train(stored_study, frozen, own, tmp_path / "b")
    assert same or not (deterministic or best_device().type == "cpu")  # a GPU's own kernels need not repeat
    assert set(seen) == {deterministic}


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_gradients_are_clipped(stored_study, frozen, options, tmp_path, monkeypatch, precision):
    norms: dict[float, list[float]] = {0: [], 0.01: []}

    def look(self, *_):
        slopes = [p.grad.flatten() for p in self.model.parameters() if p.grad is not None]
        norms[self.options.engine.clip].append(float(torch.cat(slopes).norm()))

    monkeypatch.setattr(pretrain.Pretraining, "on_train_batch_end", look)
    for clip in norms:
        own = options.model_copy(update={"epochs": 2, "engine": EngineOptions(clip=clip, precision=precision)})
        train(stored_study, frozen, own, tmp_path / str(clip))
    assert min(norms[0]) > 0.02
    assert norms[0.01] == pytest.approx([0.01] * len(norms[0]), rel=1e-3)


def test_ranks_alone_are_those_beside_the_embeddings(stored_study, frozen, options, tmp_path):
    """What variants want: no untrained models, and no table that nobody reads."""
    train(stored_study, frozen, options.model_copy(update={"epochs": 1}), tmp_path / "a")
    given = {"stores": stored_study.stores, "cohort": stored_study.cohort, "splits": frozen, "models": [tmp_path / "a"]}
    embed.run(**given, out=tmp_path / "all/ranks.parquet", threads=1)
    embed.run(**given, out=tmp_path / "alone/ranks.parquet", ranks_only=True, threads=1)
    assert [path.name for path in (tmp_path / "alone").iterdir()] == ["ranks.parquet"]
    whole, alone = (read_table(tmp_path / name / "ranks.parquet") for name in ("all", "alone"))
    assert set(whole["stage"]) == {"untrained", "pretrained"}
    assert len(alone)
    pd.testing.assert_frame_equal(whole[whole["stage"] == "pretrained"].reset_index(drop=True), alone)
    assert set(read_tsv(tmp_path / "all/retrieval.tsv")["stage"]) == {"untrained", "pretrained"}
    assert set(read_table(tmp_path / "all/embeddings.parquet")["stage"]) == {"untrained", "pretrained"}


def test_the_teacher_follows_the_student_and_is_never_it(stored_study, frozen, options, tmp_path, monkeypatch):
    """With momentum m the teacher is m old + (1 - m) new after each step; it shares no tensor with the student, is never
    trained, keeps dropout off, and lies in the checkpoint but not in the saved model.
    """
    seen, saved = [], {}
    follow = pretrain.Teacher.follow

    def spy(self, student, step):
        before = [p.clone() for p in self.model.parameters()]
        follow(self, student, step)
        m = min(0.5, (1 + step) / (10 + step))
        for old, new, target in zip(before, self.model.parameters(), student.parameters()):
            torch.testing.assert_close(new, m * old + (1 - m) * target.detach())
        own, other = ({p.data_ptr() for p in part.parameters()} for part in (self.model, student))
        assert not own & other
        assert student.training
        assert not any(part.training for part in self.modules())
        assert not any(p.requires_grad or p.grad is not None for p in self.model.parameters())
        seen.append(step)

    class Look(L.Callback):
        def on_save_checkpoint(self, trainer, module, checkpoint):
            saved.update(checkpoint["state_dict"])

    fit = engine.fit
    changes = {"epochs": 2, "teacher_momentum": 0.5, "engine": EngineOptions(checkpoint_minutes=0)}
    monkeypatch.setattr(pretrain.Teacher, "follow", spy)
    monkeypatch.setattr(pretrain, "fit", lambda *a, callbacks, **k: fit(*a, callbacks=[*callbacks, Look()], **k))
    train(stored_study, frozen, options.model_copy(update=changes), tmp_path / "a")
    assert seen == list(range(1, len(seen) + 1))
    students = {name.removeprefix("model.") for name in saved if name.startswith("model.")}
    assert {name.removeprefix("teacher.model.") for name in saved if name.startswith("teacher.")} == students
    with safe_open(tmp_path / "a/model.safetensors", "pt") as weights:
        assert set(weights.keys()) == students


def test_without_its_term_there_is_no_teacher(stored_study, frozen, options, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain.Teacher, "__init__", None)
    off = options.model_copy(update={"epochs": 1, "loss": LossOptions(kd=0)})
    train(stored_study, frozen, off, tmp_path / "a")
    assert not any(name.startswith("kd") for name in read_tsv(tmp_path / "a/history.tsv"))


def test_the_teacher_alone_is_refused():
    with pytest.raises(ValueError, match="kd alone is content with one embedding for everybody"):
        LossOptions(id=0, cd=0, cm=0, cf=0)


def test_a_region_that_some_have_lost_is_learnt_from_the_others(stored_study, frozen, options, tmp_path):
    """Its entries are NaN: losses stay finite and fall."""
    lost = set(part(load_splits(frozen), 0, "train")[::3])
    lose_region(stored_study.stores, lost, 2)
    train(stored_study, frozen, options, tmp_path / "a")
    history = read_tsv(tmp_path / "a/history.tsv")
    total = history.loc[history["split"] == "train", "total"].to_numpy()
    assert np.isfinite(history["total"]).all()
    assert total[-1] < total[0]
