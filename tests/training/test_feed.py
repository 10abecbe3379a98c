"""Two ways to the device, one result; memory is bounded; errors of the thread are not lost."""

import threading
import time

import numpy as np
import pytest
import torch

from mcsp.errors import McspError
from mcsp.options.training import EngineOptions
from mcsp.store import read_table
from mcsp.training import feed
from mcsp.training.data import ABSENT, PairedSampler, Subjects, study_keys
from mcsp.training.feed import AHEAD, Feed, fits, prefetched, table_bytes
from tests.training.test_pretrain import train

DOMAINS = ["spatial", "temporal", "spectral"]


@pytest.fixture
def subjects(stored_study):
    cohort = read_table(stored_study.cohort)
    return Subjects(stored_study.stores, cohort, list(cohort["uid"]), study_keys(cohort, ["fmri", "eeg"], DOMAINS))


def draw(subjects, data, dtype=torch.float32, epoch=1):
    batches = Feed(subjects, PairedSampler(subjects.has, 16, 4), data, dtype)
    batches.batch_sampler.set_epoch(epoch)
    return list(batches)


def assert_same(first, second):
    assert len(first) == len(second) > 2
    for a, b in zip(first, second):
        for part in ("x", "present", "n_valid"):
            left, right = getattr(a, part), getattr(b, part)
            assert list(left) == list(right)
            assert all(torch.equal(left[k], right[k]) and left[k].dtype == right[k].dtype for k in left)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_uploaded_and_streamed_batches_are_the_same_bits(subjects, dtype):
    device, stream = draw(subjects, "device", dtype), draw(subjects, "stream", dtype)
    assert_same(device, stream)
    assert all(v.dtype == torch.float32 for batch in stream for v in batch.x.values())
    plain = [subjects.collate(index) for index in Feed(subjects, sampler_at(subjects, 1)).batch_sampler]
    if dtype == torch.float32:
        assert_same(stream, plain)
    else:
        assert not torch.equal(stream[0].x["fmri", "temporal"], plain[0].x["fmri", "temporal"])
        torch.testing.assert_close(stream[0].x, plain[0].x, rtol=2**-8, atol=0)


def sampler_at(subjects, epoch):
    sampler = PairedSampler(subjects.has, 16, 4)
    sampler.set_epoch(epoch)
    return sampler


@pytest.mark.parametrize("data", ["device", "stream"])
def test_nobody_is_a_row_without_any_modality(subjects, data):
    index = [3, ABSENT, len(subjects) - 1, ABSENT]
    (batch,) = Feed(subjects, [index], data)
    for place, i in enumerate(index):
        for m, present in batch.present.items():
            assert present[place] == (i != ABSENT and bool(subjects.has[m][i]))
            assert (batch.n_valid[m][place] > 0) == present[place]
        assert all((batch.x[key][place] != 0).any() == batch.present[key[0]][place] for key in subjects.keys)


def test_both_ways_train_the_same_model(stored_study, frozen, options, tmp_path):
    options = options.model_copy(update={"epochs": 2})
    first, second = (
        train(stored_study, frozen, options.model_copy(update={"engine": EngineOptions(data=data)}), tmp_path / data)
        for data in ("device", "stream")
    )
    assert first == second


def test_what_fits_is_by_free_memory_and_a_cpu_reads_its_memory_maps(subjects, monkeypatch):
    size = table_bytes(subjects, torch.float32)
    assert size == sum((len(rows) + 1) * 4 * np.prod(subjects.shapes[key]) for key, rows in subjects.rows.items())
    assert table_bytes(subjects, torch.bfloat16) == size / 2
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2 * size + 2, 10 * size))
    assert fits(subjects, gpu, torch.float32)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2 * size, 10 * size))
    assert not fits(subjects, gpu, torch.float32)
    assert fits(subjects, gpu, torch.bfloat16)
    assert not fits(subjects, torch.device("cpu"), torch.float32)


def test_too_much_to_upload_is_one_line(subjects, monkeypatch):
    def refuse(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(feed.Resident, "_upload", refuse)
    with pytest.raises(McspError, match="do not fit on cpu: use auto or stream"):
        next(iter(Feed(subjects, [[0]], "device")))


def test_few_batches_wait_and_the_thread_ends_with_the_reader():
    made = []

    def make(index):
        made.append(index)
        return index

    before = threading.active_count()
    batches = prefetched(make, [[i] for i in range(50)])
    assert next(batches) == [0]
    time.sleep(0.5)
    assert len(made) <= 1 + AHEAD + 1  # in use, waiting, in the making
    batches.close()
    assert threading.active_count() == before
    assert list(prefetched(make, [[7], [8]])) == [[7], [8]]


def test_an_error_in_the_thread_is_raised_where_batches_are_read():
    def make(index):
        if index == [2]:
            raise ValueError("a damaged row")
        return index

    with pytest.raises(ValueError, match="a damaged row"):
        list(prefetched(make, [[1], [2], [3]]))


def test_a_feed_goes_on_behind_what_was_done(subjects):
    sampler = sampler_at(subjects, 3)
    whole = list(Feed(subjects, sampler, "device"))
    stopped, rest = Feed(subjects, sampler, "device"), Feed(subjects, sampler, "device")
    reader = iter(stopped)
    next(reader), next(reader)
    rest.load_state_dict(stopped.state_dict())
    assert_same([*whole[:2], *rest], whole)
    assert rest.state_dict() == {"position": len(whole)}
    assert_same(list(rest), whole)  # the next epoch starts at its start
