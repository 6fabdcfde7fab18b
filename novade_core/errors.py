"""The whole error tree, grouped by what the caller should do.

::

    NovadeError
    ├── ConfigurationError       change a setting, a grant or the command; a retry will not help
    │   ├── UnknownStream
    │   ├── BadWindow
    │   ├── KeyReused            an idempotency key came with two different requests
    │   ├── AccessMissing        the source hides an object or field from the integration user
    │   └── SchemaFrozen         the stream's policy forbids the change that arrived
    ├── AuthenticationFailed     the source or warehouse refused our identity
    ├── RetryableError           wait, then try again; ``retry_after`` says how long where known
    │   ├── SourceUnavailable    5xx, dropped connections, edge trouble
    │   ├── RateLimited          too many requests at once
    │   ├── QuotaReserved        the daily allocation is down to the reserve
    │   ├── TransferBroken       an answer that was cut short or does not parse
    │   ├── SchemaMoved          the source's schema changed under the running extraction
    │   ├── WindowTooLarge       the source timed out; ask for half the window
    │   ├── ExtractionLost       a job or locator is gone; start this window again
    │   ├── LandingUnavailable   storage is throttled, not reached, or an upload was cut
    │   ├── WarehouseBusy        somebody else holds the warehouse file
    │   ├── LoadWindowClosed     the pool is paused between load windows
    │   └── LeaseHeld            another worker is on this stream
    ├── ProtocolBroken           the source contradicts itself; trying again would loop
    ├── SourceRetired            the service does not exist any more; what was loaded stays
    ├── NotOffered               the source cannot answer this, such as a count; nothing failed
    ├── StorageRefused           the landing or warehouse cannot be written (rights, disk full)
    ├── DataRejected             more records than the limit could not be typed
    ├── VerificationFailed       the counts do not add up
    ├── LeaseLost                another worker took over; this one must stop
    └── RunCancelled             somebody asked for it

Every error carries a ``message`` (what happened to which thing), a ``hint`` (the next step) and an
``origin`` (source, landing, warehouse, us). Secrets never enter a message.
"""

from __future__ import annotations

from typing import ClassVar, Literal

Origin = Literal["source", "landing", "warehouse", "us"]


class NovadeError(Exception):
    """The root. ``str(error)`` is one sentence that is fit for a page."""

    origin: ClassVar[Origin] = "us"
    retryable: ClassVar[bool] = False
    default_hint: ClassVar[str] = "Read the run's log for details."

    def __init__(self, message: str, *, hint: str | None = None, origin: Origin | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.default_hint
        self.origin_of_fault: Origin = origin or self.origin

    @property
    def kind(self) -> str:
        """The class name, which is stored with the run and grouped on pages."""
        return type(self).__name__


class ConfigurationError(NovadeError):
    """A setting, a grant or a command is wrong; trying again changes nothing."""

    default_hint = "Correct the configuration and start the run again."


class UnknownStream(ConfigurationError):
    """No stream has this name."""

    default_hint = "List the streams with `python -m jobs streams`."


class BadWindow(ConfigurationError):
    """A window that ends before it starts, or an instant without a time zone."""

    default_hint = "Give instants such as 2024-11-01T00:00:00Z, the earlier one as --since."


class KeyReused(ConfigurationError):
    """An idempotency key that was used before came with another request."""

    default_hint = "Use a new idempotency key for each thing that you ask for."


class AccessMissing(ConfigurationError):
    """The source hides an object or field from the integration user, or the API is off."""

    origin = "source"
    default_hint = "Grant the integration user access to it, then start the run again."


class SchemaFrozen(ConfigurationError):
    """The stream's schema policy is ``freeze`` and the source's schema changed."""

    default_hint = "Accept the change by setting the stream's schema policy to evolve."


class AuthenticationFailed(NovadeError):
    """The remote refused our identity."""

    origin = "source"
    default_hint = "Check the connection's user, key and consent, then start the run again."


class RetryableError(NovadeError):
    """It may work later. ``retry_after`` is in seconds, None where the remote does not say."""

    retryable = True
    default_hint = "It may work later: start the run again; landed chunks are kept and not fetched twice."

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        origin: Origin | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint, origin=origin)
        self.retry_after = retry_after


class SourceUnavailable(RetryableError):
    """5xx, a dropped connection, or an edge proxy's answer."""

    origin = "source"


class RateLimited(RetryableError):
    """Too many requests at once."""

    origin = "source"


class QuotaReserved(RetryableError):
    """The daily allocation is used up to the reserve that a sync may not touch."""

    origin = "source"
    default_hint = "Wait until the rolling 24-hour allocation frees calls, or lower api_reserve_percent."


class TransferBroken(RetryableError):
    """An answer that was cut short, has another number of rows than announced, or does not parse."""

    origin = "source"
    default_hint = "Start the run again; landed chunks are kept and not fetched twice."


class SchemaMoved(RetryableError):
    """A field vanished between describe and query."""

    origin = "source"
    default_hint = "Start the run again: it describes the object anew. A vanished field may be a lost permission."


class WindowTooLarge(RetryableError):
    """The source timed out on a window; half of it may do."""

    origin = "source"


class ExtractionLost(RetryableError):
    """A query locator or bulk job is gone (expired, aborted, deleted); the window starts again."""

    origin = "source"


class LandingUnavailable(RetryableError):
    """The storage is throttled or was not reached, or an upload was cut or damaged on its way."""

    origin = "landing"


class WarehouseBusy(RetryableError):
    """Another process holds the warehouse."""

    origin = "warehouse"
    default_hint = "Wait for the other process to finish or end it, then start the run again."


class LoadWindowClosed(RetryableError):
    """The pool is paused between load windows."""

    origin = "warehouse"
    default_hint = "What has landed is loaded in the next load window; open one now with `python -m jobs window open`."


class LeaseHeld(RetryableError):
    """Another worker runs this stream at the moment."""

    default_hint = "Wait for that run to end, or cancel it."


class ProtocolBroken(NovadeError):
    """The source contradicts itself, such as a continuation that leads to itself."""

    origin = "source"
    default_hint = "Start the run again later; if it stays, report it to the vendor with the run's log."


class SourceRetired(NovadeError):
    """The service behind a source has ended; what was loaded and landed stays."""

    origin = "source"
    default_hint = "Pause the stream's schedule. Everything that was loaded stays; nothing needs to be done for it."


class NotOffered(NovadeError):
    """The source has no way to answer a question such as a count; the run goes on without the answer."""

    origin = "source"
    default_hint = "Nothing to do: a full reload counts what it reads."


class StorageRefused(NovadeError):
    """The landing, the warehouse or the temporary folder cannot be written."""

    origin = "landing"
    default_hint = "Free space or correct the folder's rights, then start the run again."


class DataRejected(NovadeError):
    """More records than the stream's limit could not be typed."""

    origin = "source"
    default_hint = "Look at the run's rejects, correct the records or raise the stream's reject_limit."


class VerificationFailed(NovadeError):
    """The counts of a run do not add up."""

    origin = "us"
    default_hint = "Start the run again; if it stays, reconcile the stream."


class LeaseLost(NovadeError):
    """Another worker took this stream over; this one writes nothing more."""

    default_hint = "Nothing to do: the other run continues from the last registered chunk."


class RunCancelled(NovadeError):
    """Somebody asked for the run to end."""

    default_hint = "Start it again when wanted; landed chunks are kept."
