"""The model: independent of the batch, blind to what is missing, strict when loaded."""

import copy
import json

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from mcsp.errors import McspError
from mcsp.model.augment import Augmentation, augmented
from mcsp.model.batch import Batch
from mcsp.model.encoders import GraphEncoder, Projector, Scaler, start_at_components, transformer
from mcsp.model.losses import LossWeights, mcsp_losses
from mcsp.model.mcsp import MCSP, Classifier

SHAPES = {
    "fmri/spatial": (6, 6),
    "fmri/temporal": (6, 20),
    "fmri/spectral": (6, 11),
    "eeg/spatial": (4, 5, 5),
    "eeg/temporal": (7, 5, 30),
    "eeg/spectral": (7, 5, 16),
}
SIZES = {"width": 8, "depth": 1, "heads": 2, "dim": 4, "patch": 6, "segment_features": 3, "density": 0.4, "dropout": 0.2}
CONFIG = {"architecture": {**SIZES, "shapes": SHAPES}, "head": {"hidden": 5, "dropout": 0.3}}


def make_batch(n=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = {}
    for name, shape in SHAPES.items():
        value = torch.rand(n, *shape, generator=generator)
        if name.endswith("spatial"):
            value = torch.triu(value - 0.5, 1)
            value = value + value.transpose(-1, -2)
        x[tuple(name.split("/"))] = value
    present = {
        "fmri": torch.tensor([True, True, False, True, True][:n]),
        "eeg": torch.tensor([True, False, True, True, True][:n]),
    }
    return Batch(x, present, {"fmri": torch.tensor([20, 13, 0, 8, 20][:n]), "eeg": torch.full((n,), 7)})


@pytest.fixture(params=[("features", False), ("projections", False), ("both", True)], ids=lambda p: p[0])
def classifier(request):
    torch.manual_seed(0)
    config = copy.deepcopy(CONFIG)
    config["head"]["reads"], config["architecture"]["linear_start"] = request.param
    model = Classifier(config).eval()
    with torch.no_grad():  # away from the start, at which parts are zero
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    return model


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize(("precision", "z_error", "gradient_error"), [(None, 1e-4, 1e-4), (torch.bfloat16, 0.03, 0.05)])
def test_a_gpu_agrees_with_float64_on_the_cpu(precision, z_error, gradient_error):
    torch.manual_seed(0)
    model, batch = MCSP(copy.deepcopy(CONFIG)).eval(), make_batch()
    twin = copy.deepcopy(model).to("cuda")
    double = Batch({k: v.double() for k, v in batch.x.items()}, batch.present, batch.n_valid)
    results = []
    for net, given, autocast in ((model.double(), double, False), (twin, batch.to("cuda"), precision is not None)):
        with torch.autocast("cuda", precision or torch.bfloat16, enabled=autocast):
            z = net(given)[1]
        mcsp_losses(z, z, batch.present, LossWeights(id=0.0))["total"].backward()
        slopes = [p.grad.flatten() for p in net.parameters() if p.grad is not None]
        results.append([torch.cat(parts).double().cpu() for parts in ([v.flatten() for v in z.values()], slopes)])
    for expected, found, limit in zip(*results, (z_error, gradient_error)):
        assert (found - expected).norm() < limit * expected.norm()


def test_a_subject_does_not_depend_on_its_batch(classifier):
    batch = make_batch()
    logits = classifier(batch)
    for i in range(5):
        torch.testing.assert_close(classifier(batch.rows(slice(i, i + 1)))[0], logits[i], rtol=1e-5, atol=1e-6)
    z = classifier.backbone.embed(batch)
    alone = classifier.backbone.embed(batch.rows(slice(3, 4)))
    for key in z:
        torch.testing.assert_close(alone[key][0], z[key][3], rtol=1e-5, atol=1e-6)


def test_what_a_missing_modality_would_hold_changes_nothing(classifier):
    batch = make_batch()
    before = classifier(batch)
    for key, value in batch.x.items():
        value[~batch.present[key[0]]] = 1e3
    torch.testing.assert_close(classifier(batch), before)


def test_no_gradient_reaches_a_missing_modality(classifier):
    batch = make_batch()
    for value in batch.x.values():
        value.requires_grad_()
    classifier(batch).sum().backward()
    for key, value in batch.x.items():
        present = batch.present[key[0]]
        assert (value.grad[~present] == 0).all()
        assert (value.grad[present].flatten(1) != 0).any(dim=1).all()


def test_frames_beyond_the_valid_ones_change_nothing(classifier):
    batch = make_batch()
    before = classifier(batch)
    batch.x["fmri", "temporal"][1, :, 18:] = 7.0  # 13 valid frames: the patch from 12 on is seen, the one from 18 on is not
    torch.testing.assert_close(classifier(batch), before)
    batch.x["fmri", "temporal"][1, :, 12] = 7.0
    assert not torch.allclose(classifier(batch)[1], before[1])


@pytest.mark.parametrize("key", [tuple(name.split("/")) for name in SHAPES])
def test_every_domain_is_used(classifier, key):
    batch = make_batch()
    before = classifier(batch)
    batch.x[key] = batch.x[key].flip(1) * 1.5
    assert not torch.allclose(classifier(batch), before)


def test_an_empty_modality_in_a_batch_is_no_error(classifier):
    batch = make_batch().rows(slice(1, 2))
    assert torch.isfinite(classifier(batch)).all()


def test_embeddings_have_unit_length_or_are_zero(classifier):
    batch = make_batch()
    for key, z in classifier.backbone.embed(batch).items():
        torch.testing.assert_close(z.norm(dim=1), batch.present[key[0]].float())


def test_saved_and_loaded_model_is_the_same(classifier, tmp_path):
    classifier.save_pretrained(tmp_path)
    loaded = Classifier.from_pretrained(tmp_path)
    assert not loaded.training
    torch.testing.assert_close(loaded(make_batch()), classifier(make_batch()), rtol=0, atol=0)


@pytest.mark.parametrize("damage", ["width", "weights", "config", "kind"])
def test_loading_is_strict(classifier, tmp_path, damage):
    classifier.save_pretrained(tmp_path)
    if damage == "width":
        config = json.loads((tmp_path / "config.json").read_text())
        config["architecture"]["width"] = 16
        (tmp_path / "config.json").write_text(json.dumps(config))
    elif damage == "weights":
        path = tmp_path / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "config":
        (tmp_path / "config.json").unlink()
    with pytest.raises(McspError, match=r"not a whole (MCSP|Classifier) model"):
        (MCSP if damage == "kind" else Classifier).from_pretrained(tmp_path)


def test_adjacency_keeps_the_strongest_edges_and_is_normalised(classifier):
    encoder = classifier.backbone.encoders["fmri_spatial"]
    x = make_batch().x["fmri", "spatial"][:, None]
    adjacency = encoder.adjacency(x)
    torch.testing.assert_close(adjacency, adjacency.transpose(-1, -2))
    off = adjacency - torch.diag_embed(torch.diagonal(adjacency, dim1=-2, dim2=-1))
    assert ((off > 0).sum(dim=(-1, -2)) == int(0.4 * 30)).all()
    strength = x.abs()[0, 0]
    kept, left = strength[off[0, 0] > 0].min(), strength[(off[0, 0] == 0) & ~torch.eye(6, dtype=torch.bool)].max()
    assert kept >= left
    assert torch.linalg.eigvalsh(adjacency).abs().max() <= 1 + 1e-5  # symmetric normalisation bounds the spectrum


def test_views_are_drawn_from_the_seed_and_keep_their_domain():
    batch, strength = make_batch(), Augmentation(node_drop=0.3, edge_drop=0.3)

    def draw(seed):
        return augmented(batch, strength, torch.Generator().manual_seed(seed), {}).x

    first, same, other = draw(1), draw(1), draw(2)
    for key in batch.x:
        assert torch.equal(first[key], same[key])
        assert not torch.equal(first[key], other[key])
        assert first[key].shape == batch.x[key].shape
    for modality in ("fmri", "eeg"):
        torch.testing.assert_close(first[modality, "spatial"], first[modality, "spatial"].transpose(-1, -2))
        assert (first[modality, "spectral"] >= 0).all()
        ceiling = 0.1 * batch.x[modality, "spectral"].amax(-1, keepdim=True)  # of each spectrum
        rise = first[modality, "spectral"] - batch.x[modality, "spectral"]
        assert (rise <= ceiling + 1e-6).all()


def test_views_without_strength_are_the_input():
    batch = make_batch()
    still = Augmentation(**dict.fromkeys(Augmentation.__dataclass_fields__, 0.0))
    views = augmented(batch, still, torch.Generator().manual_seed(0), {}).x
    for key, value in batch.x.items():
        torch.testing.assert_close(views[key], value)


def test_share_of_removed_components_is_as_asked():
    x = {("eeg", "spectral"): torch.ones(200, 3, 2, 50)}
    batch = Batch(x, {"eeg": torch.ones(200, dtype=torch.bool)}, {"eeg": torch.full((200,), 3)})
    view = augmented(batch, Augmentation(spectral_addition=0.0), torch.Generator().manual_seed(0), {}).x["eeg", "spectral"]
    assert (view == 0).float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert ((view == 0).all(dim=(1, 2)) | (view == 1).all(dim=(1, 2))).all()  # a component goes as a whole


def test_what_a_view_leaves_out_is_what_everybody_has():
    """Where a view without noise differs from its input, it is the centre, which the standardiser has in the inputs' units."""
    batch = make_batch()
    quiet = Augmentation(jitter=0.0, scale=0.0, time_mask=0.0, spectral_addition=0.0, node_drop=0.3, edge_drop=0.3)
    keys = [(m, d) for m in ("fmri", "eeg") for d in ("spatial", "spectral")]
    rng = torch.Generator().manual_seed(1)
    centres = {key: torch.rand(batch.x[key].shape[2 if key == ("eeg", "spectral") else 1 :], generator=rng) for key in keys}
    views = augmented(batch, quiet, torch.Generator().manual_seed(0), centres).x
    for key in keys:
        centre = centres[key].expand_as(views[key])
        left = ~torch.isclose(views[key], batch.x[key], atol=1e-6)
        assert 0 < left.float().mean() < 0.9
        torch.testing.assert_close(views[key][left], centre[left])
    scaler = Scaler((4,), amplitude=True)
    scaler.mean.copy_(torch.tensor([0.1, 1, 2, 0]))
    scaler.unit.fill_(0.3)
    torch.testing.assert_close(scaler(scaler.centre()), torch.zeros(4), atol=1e-6, rtol=0)


def test_the_projector_begins_with_the_mean_over_segments_and_can_tell_them_apart():
    torch.manual_seed(0)
    projector = Projector(8, 5, segments=6, segment_features=2)
    h, segments = torch.randn(3, 8), torch.randn(3, 6, 8)
    torch.testing.assert_close(projector(h, segments), projector(h, segments.flip(1)))
    projector(h, segments).square().sum().backward()
    assert projector.segments.weight.grad.abs().min() > 0
    with torch.no_grad():
        projector.segments.weight -= projector.segments.weight.grad
    assert not torch.allclose(projector(h, segments), projector(h, segments.flip(1)))


def test_a_linear_start_is_linear_and_can_be_left():
    torch.manual_seed(0)
    projector = Projector(8, 5, segments=6, segment_features=2, linear_start=True)
    a, b, segments = torch.randn(3, 8), torch.randn(3, 8), torch.randn(3, 6, 8)
    torch.testing.assert_close(projector(a - 2 * b, segments), projector(a, segments) - 2 * projector(b, segments.flip(1)))
    projector(a, segments).square().sum().backward()
    assert projector.leave.weight.grad.abs().min() > 0
    assert projector.direct.weight.grad.abs().min() > 0
    encoder = GraphEncoder((2, 4, 4), 3, 0.5, 0.0, linear_start=True)
    x = torch.randn(5, 2, 4, 4)
    h, edges = encoder(x, torch.ones(5))[0], encoder.edges(encoder.wide_inputs(x))
    share = torch.diff(h) / torch.diff(edges)  # a subject's h is its map of edges, normalised with the rest
    torch.testing.assert_close(share, share[:, :1].expand_as(share), rtol=1e-3, atol=1e-5)
    h.square().sum().backward()
    assert (encoder.leave[1].weight.grad[:, :-3] != 0).any()  # the convolution's share can grow


def test_the_head_hears_what_it_is_told_to():
    torch.manual_seed(0)
    batch = make_batch()
    for reads, width in {"features": 8, "projections": 4, "both": 12}.items():
        model = Classifier({**CONFIG, "head": {**CONFIG["head"], "reads": reads}}).eval()
        heard, (h, z) = model.heard(batch), model.backbone.encode(batch)
        assert {value.shape for value in heard.values()} == {(5, width)}
        model.evidence(heard, batch.present).square().sum().backward()
        grad = model.backbone.projectors["fmri_spatial"].leave.weight.grad
        assert (grad is None) == (reads == "features")
        for key, value in heard.items():
            parts = {"features": [h[key]], "projections": [z[key]], "both": [h[key], z[key]]}[reads]
            for part, own in zip(value.split([p.shape[1] for p in parts], dim=1), parts):
                wanted = own - own.mean(dim=1, keepdim=True)
                found = part - part.mean(dim=1, keepdim=True)
                there = batch.present[key[0]]
                cosine = torch.nn.functional.cosine_similarity(wanted[there], found[there])
                torch.testing.assert_close(cosine, torch.ones(len(cosine)))


def test_standardisation_in_one_buffer_is_the_formula_and_leaves_its_input():
    scaler = Scaler((4,), amplitude=True)
    scaler.mean.copy_(torch.tensor([0.1, -1, 2, 0]))
    scaler.unit.fill_(0.3)
    scaler.scale.fill_(2.0)
    x = torch.rand(6, 3, 4) - 0.1
    before = x.clone()
    wanted = (torch.log1p(x.clamp_min(0) / 0.3) - scaler.mean) / 2
    assert torch.equal(scaler(x), wanted)
    assert torch.equal(x, before)
    torch.testing.assert_close(scaler(x.clone().requires_grad_()), wanted)


def test_a_whole_batch_is_encoded_as_its_subjects_among_others_are(classifier):
    batch = make_batch()
    both = batch.present["fmri"] & batch.present["eeg"]
    h, z = classifier.backbone(batch)
    whole_h, whole_z = classifier.backbone(batch.rows(both))
    for key in z:
        torch.testing.assert_close(whole_h[key], h[key][both], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(whole_z[key], z[key][both], rtol=1e-5, atol=1e-6)


def test_a_map_starts_at_the_principal_components():
    """Its outputs have the distances between scikit-learn's components, and mean square 1."""
    torch.manual_seed(0)
    x = torch.randn(40, 6) @ torch.randn(6, 300) + 0.1 * torch.randn(40, 300)
    linear = torch.nn.Linear(300, 8)
    start_at_components(linear, x)
    out = linear(x - x.mean(dim=0)).detach()
    assert out.square().mean().item() == pytest.approx(1, rel=1e-4)
    expected = PCA(8).fit_transform(x.numpy())
    distance, reference = torch.cdist(out, out).numpy(), torch.cdist(*[torch.tensor(expected)] * 2).numpy()
    np.testing.assert_allclose(distance / distance.mean(), reference / reference.mean(), atol=1e-3)


@pytest.mark.parametrize("rows", [40, 400])  # fewer and more than features
def test_a_map_starts_at_components_apart(rows):
    """Each output is one whitened component of scikit-learn's; outputs beyond the components stay as drawn."""
    torch.manual_seed(0)
    x = torch.randn(rows, 6) @ torch.randn(6, 100)
    linear = torch.nn.Linear(100, 8, bias=False)
    before = linear.weight.clone()
    start_at_components(linear, x, apart=True)
    found = linear(x - x.mean(dim=0)).detach().numpy()[:, :6]
    expected = PCA(6, whiten=True).fit_transform(x.numpy())[:, ::-1] * np.sqrt(rows / (rows - 1))
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=2e-3)
    assert torch.equal(linear.weight[6:], before[6:])


def test_transformers_begin_as_the_identity():
    body = transformer(16, 2, 4, 0.0).eval()
    x = torch.randn(3, 5, 16)
    torch.testing.assert_close(body(x), x)
    body(x).square().sum().backward()
    assert body.layers[0].linear2.weight.grad.abs().sum() > 0  # and can leave it


def test_a_map_keeps_its_start_where_there_are_no_components():
    linear = torch.nn.Linear(30, 4)
    before = linear.weight.clone()
    start_at_components(linear, torch.ones(5, 30))
    start_at_components(linear, torch.randn(1, 30))
    assert torch.equal(linear.weight, before)
