"""Which versions of a registered model have been its champion, and how to go back to one."""

from typing import TYPE_CHECKING

from data_modules.errors import UserError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

CHAMPION = "champion"
#: Tag of a registered model: the versions that have been champion, the present one last.
HISTORY = "champions"
#: MLflow's store keeps so many characters of a description.
_MOST_CHARACTERS = 5000


def roll_back(store: "MlflowClient", name: str) -> tuple[str, str]:
    """Makes the version champion again that was it before the present one.

    Args:
        store: Tracking store, from :func:`pipelines.tracking.client`.
        name: Name of the registered model.

    Returns:
        The version that was champion, and the one that is now.

    Raises:
        UserError: If there is no such model, or it had no champion before.
    """
    from mlflow.exceptions import MlflowException

    try:
        history = _champions(store, name)
    except MlflowException as error:
        raise UserError(f"name: there is no registered model {name!r}") from error
    there = {str(each.version) for each in store.search_model_versions(f"name = '{name}'")}
    earlier = [version for version in history[:-1] if version in there]
    if not earlier:
        raise UserError(f"rollback: {name} had no champion before the present one")
    # The alias first: whoever looks meanwhile finds one champion or the other.
    store.set_registered_model_alias(name, CHAMPION, earlier[-1])
    store.set_registered_model_tag(name, HISTORY, ",".join(earlier))
    status = f"{CHAMPION}: version {history[-1]} was rolled back."
    card = store.get_model_version(name, earlier[-1]).description
    store.update_model_version(name, earlier[-1], description=with_status(card, status))
    old = store.get_model_version(name, history[-1]).description
    store.update_model_version(
        name, history[-1], description=with_status(old, f"was {CHAMPION}, and was rolled back.")
    )
    return history[-1], earlier[-1]


def with_status(description: str | None, status: str) -> str:
    """Returns a version's description with another first paragraph: what it is now, and why."""
    card = (description or "").partition("\n\n")[2]
    return (status + "\n\n" + card)[:_MOST_CHARACTERS]


def _champions(store: "MlflowClient", name: str) -> list[str]:
    """Returns the versions that have been champion, the present one last."""
    model = store.get_registered_model(name)
    known = [version for version in model.tags.get(HISTORY, "").split(",") if version]
    present = model.aliases.get(CHAMPION)
    if present and str(present) not in known[-1:]:  # it was made champion by other means
        known.append(str(present))
    return known


def crown(store: "MlflowClient", name: str, version: str) -> None:
    """Makes a version the champion; an alias is one version's alone, whoever sets it at once."""
    history = _champions(store, name)
    store.set_registered_model_alias(name, CHAMPION, version)
    store.set_registered_model_tag(name, HISTORY, ",".join([*history, version]))
