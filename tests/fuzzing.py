"""How the fuzzers draw their cases: as many and such as the options of pytest ask for."""

from hypothesis import HealthCheck, Phase, given, seed, settings


def drawn(config, *strategies):
    """A decorator like `given`, for `--fuzz-cases` cases by `--fuzz-seed`; none is made smaller or kept."""

    def decorate(test):
        bounded = settings(
            max_examples=config.getoption("--fuzz-cases"),
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        return seed(config.getoption("--fuzz-seed"))(bounded(given(*strategies)(test)))

    return decorate
