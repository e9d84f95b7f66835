"""The scorers that train a network are detectors of tables like any other."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from mmad_utils.multimodal.scorers import EnergyModel, FlowDensity


@parametrize_with_checks(
    [
        EnergyModel(hidden=(8,), epochs=2, random_state=0),
        FlowDensity(transforms=1, hidden=(8,), epochs=2, random_state=0),
    ]
)
def test_scikit_learns_checks_pass(estimator, check):
    check(estimator)
