"""What Azure Storage refuses, as our errors: thing, reason, next step. Never the URL, which may hold a SAS."""

from __future__ import annotations

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    IncompleteReadError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.identity import CredentialUnavailableError

from novade_core.errors import (
    AuthenticationFailed,
    ConfigurationError,
    LandingUnavailable,
    NovadeError,
    StorageRefused,
)

#: Said where somebody created the blob before us: plainly, with a SAS that may create but not write, and where the
#: other one's list of blocks swept ours away. The last three have other causes too.
TAKEN = {
    "BlobAlreadyExists",
    "ConditionNotMet",
    "UnauthorizedBlobOverwrite",
    "AuthorizationPermissionMismatch",
    "InvalidBlockList",
}
_ROLE = "Storage Blob Data Contributor"
_NO_CONTAINER = {"ContainerNotFound", "FilesystemNotFound", "ResourceNotFound"}
_NO_ACCESS = {
    "AuthorizationFailure",
    "AuthorizationPermissionMismatch",
    "AuthorizationResourceTypeMismatch",
    "AuthorizationServiceMismatch",
    "AuthorizationProtocolMismatch",
    "AuthorizationSourceIPMismatch",
    "InsufficientAccountPermissions",
    "KeyBasedAuthenticationNotPermitted",
}
#: Damaged on the way, or in the way of each other: the next try starts from the beginning.
_PASSING = {"Md5Mismatch", "InvalidBlockList", "InvalidBlobOrBlock", "ConditionNotMet", "ContainerBeingDeleted"}
_GRANTS = {
    "managed_identity": f"Give the identity the role {_ROLE} on the container; Owner or Contributor will not do.",
    "sas": "Make the SAS for the container with read, add, create, write and list (sp=racwl), for HTTPS and from here.",
    "key": "Allow shared keys and this network on the account, or take credential = managed_identity.",
    "connection_string": "Allow shared keys and this network on the account, or take credential = managed_identity.",
}
_PROOFS = {
    "managed_identity": "Check that this machine has the managed identity and that client_id names it.",
    "sas": "Make a new SAS and set NOVADE_LANDING_SAS; check this machine's clock.",
    "key": "Check account and NOVADE_LANDING_KEY (keys are rotated), and this machine's clock.",
    "connection_string": "Check NOVADE_LANDING_CONNECTION_STRING (keys are rotated), and this machine's clock.",
}


def code(error: AzureError) -> str:
    """The service's word for what is wrong, such as BlobAlreadyExists; empty where it gave none."""
    value = getattr(error, "error_code", None)
    return str(getattr(value, "value", value) or "")


def translated(
    error: AzureError, *, path: str, account: str, container: str, credential: str, sas_ends: str = ""
) -> NovadeError:
    """One of our errors for what the library raised."""
    place = f"the container {container} of storage account {account}"
    word, status = code(error), getattr(error, "status_code", None)
    if isinstance(error, CredentialUnavailableError):
        return AuthenticationFailed(
            f"There is no managed identity here with which to reach {place}.",
            hint=_PROOFS["managed_identity"],
            origin="landing",
        )
    # Without a word of the storage it is where the token comes from that refused, or the key cannot sign.
    if isinstance(error, ClientAuthenticationError) and not word:
        return AuthenticationFailed(
            f"Our {credential.replace('_', ' ')} for {place} is not usable.",
            hint=_PROOFS[credential],
            origin="landing",
        )
    if not isinstance(error, HttpResponseError) or status is None:
        return _unanswered(error, place, path)
    said = f"{word or 'no reason given'}, HTTP {status}"
    if word in _NO_CONTAINER or (status == 404 and not word):
        return ConfigurationError(
            f"There is no container {container} in storage account {account}.",
            hint=f"Create the container {container} in {account}, or correct account, container and endpoint.",
            origin="landing",
        )
    if status == 404:
        return StorageRefused(f"The landing, {place}, does not hold {path}.")
    # Azurite calls a wrong signature AuthorizationFailure; with Azure that is a network rule.
    if word in _NO_ACCESS and "failed to authenticate" not in error.message:
        return ConfigurationError(
            f"Our access to {place} does not allow what {path or 'the list'} needs ({said}).",
            hint=_GRANTS[credential],
            origin="landing",
        )
    if status in (401, 403):
        until = f"; the SAS ends at {sas_ends}" if sas_ends else ""
        return AuthenticationFailed(
            f"{_begin(place)} refused our {credential.replace('_', ' ')} ({said}{until}).",
            hint=_PROOFS[credential],
            origin="landing",
        )
    if word in _PASSING or status in (408, 429) or status >= 500:
        return LandingUnavailable(f"{_begin(place)} could not take or give {path} ({said}).")
    return StorageRefused(
        f"{_begin(place)} refused {path} ({said}).",
        hint="Look the word up in Azure's list of storage error codes, remove the cause and start the run again.",
    )


def _unanswered(error: AzureError, place: str, path: str) -> NovadeError:
    if isinstance(error, ServiceRequestError | ServiceResponseError | IncompleteReadError):
        return LandingUnavailable(f"{_begin(place)} was not reached for {path or 'the list'}: {_reason(error)}.")
    return LandingUnavailable(f"The answer of {place} about {path} is broken ({type(error).__name__}).")


def _begin(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _reason(error: BaseException) -> str:
    """What the operating system said, deep in the chain; else the outermost class."""
    found: list[BaseException] = [error]
    for cause in found:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        # The libraries keep what they caught in four places.
        inside = (cause.__cause__, cause.__context__, getattr(cause, "inner_exception", None), *cause.args)
        found += [e for e in inside if isinstance(e, BaseException) and e not in found]
    return type(error).__name__
