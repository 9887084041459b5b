"""The error tree: what can go wrong, each with a stable `code` and whether a retry can help.

LikewiseError
├── InputError               the request itself is wrong
│   ├── BodyMalformed        a body that isn't JSON in UTF-8
│   ├── InputEmpty           there is nothing to compute
│   ├── InputTooLong         more tokens than the model reads, and cutting was refused
│   ├── InputUnreadable      a text or token id that the model's tokenizer can't take
│   └── DimensionsError      a vector width the model or store doesn't have
├── SettingsError            a flag, TOML key or environment value is wrong
├── MissingExtra             an optional dependency isn't installed (also an ImportError)
├── ModelError
│   ├── ModelNotFound        no place we looked has it
│   ├── ModelUnsupported     it exists, and it asks for something we don't compute
│   └── ModelCorrupt         its files are damaged or don't agree with each other
├── EngineError              the computation failed
│   └── NotFinite            it gave NaN or Inf
├── EndpointError            a remote model's endpoint can't be used as it is
│   ├── EndpointUnavailable  it can't be reached, or has no time now (retryable)
│   ├── EndpointKeyRefused   it wants a key, or another one
│   ├── EndpointRefused      it doesn't take what it was sent
│   └── EndpointGarbled      its answer isn't one to what was asked
├── DatabaseError
│   ├── DatabaseLocked       another program holds it (retryable)
│   ├── DatabaseUnavailable  its server can't be reached now (retryable)
│   ├── DatabaseReadOnly
│   ├── DatabaseFull         (retryable once there is room)
│   ├── DatabaseCorrupt
│   └── DatabaseMissing      no such file
├── BindingError
│   ├── BindingNotFound
│   ├── BindingExists
│   ├── NoKey                the table has nothing that names a row for good
│   ├── SchemaDrift          a bound table or column is gone or renamed
│   ├── LeaseLost            another worker took over (retryable)
│   ├── NotYetSearchable     a change isn't searchable within the time that was given (retryable)
│   ├── MassDelete           very many rows gone at once: nothing is removed unasked
│   ├── FileUnreadable       a bound file can't be read as what its name says
│   ├── RootMissing          a bound folder isn't there, or can't be listed (retryable)
│   └── SpaceMismatch        vectors of another model or setting: never mixed
├── Overloaded               too much waiting (retryable)
│   ├── DeadlineExceeded     it can't be, or wasn't, computed in the time that was given
│   └── RateLimited          this key asks for more than it may (retryable)
├── AccessError
│   ├── Unauthorised         no key, or one that isn't known
│   └── Forbidden            a key that may not do this
├── AdminError               a model can't be loaded, unloaded or reloaded as asked
└── AddressInUse             the port is taken
"""

from __future__ import annotations

from typing import Any, ClassVar


class LikewiseError(Exception):
    """Every failure that Likewise reports; `str()` says what, where and what to do.

    Attributes:
        code: stable machine-readable name, the same in HTTP answers, logs and metrics.
        retryable: whether the same call can succeed later without a change by the caller.
        param: the request field or setting the error is about, where there is one.
        inputs: positions of the inputs that failed, where it is about some of them.
        retry_after_s: seconds after which a retry may succeed, where that can be said.
    """

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        inputs: tuple[int, ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.param = param
        self.inputs = inputs
        self.retry_after_s = retry_after_s


class InputError(LikewiseError):
    """The request can't be answered as it was sent."""

    code = "invalid_input"


class BodyMalformed(InputError):
    """A request's body isn't JSON in UTF-8."""

    code = "body_malformed"


class InputEmpty(InputError):
    """There is nothing to compute: no inputs, or an empty one."""

    code = "input_empty"


class InputUnreadable(InputError):
    """A text or token id that the model's tokenizer can't take."""

    code = "input_unreadable"


class InputTooLong(InputError):
    """A text has more tokens than the model reads, and isn't to be cut.

    Attributes:
        tokens: how many the first such text has, special ones and prompt included; None where it
            isn't about one text.
        limit: how many the model reads.
    """

    code = "input_too_long"

    def __init__(
        self,
        message: str,
        *,
        tokens: int | None = None,
        limit: int | None = None,
        **known: Any,
    ) -> None:
        super().__init__(message, **known)
        self.tokens = tokens
        self.limit = limit


class DimensionsError(InputError):
    """A vector width that the model or store doesn't have."""

    code = "invalid_dimensions"


class SettingsError(LikewiseError):
    """A flag, configuration key or environment value is wrong."""

    code = "invalid_settings"


class MissingExtra(LikewiseError, ImportError):
    """An optional dependency isn't installed; the message gives the command that installs it."""

    code = "missing_extra"


class ModelError(LikewiseError):
    """A model can't be used."""

    code = "model_error"


class ModelNotFound(ModelError):
    """None of the places that were tried has the model."""

    code = "model_not_found"


class ModelUnsupported(ModelError):
    """The model asks for a part that Likewise doesn't compute; it is named, never guessed."""

    code = "model_unsupported"


class ModelCorrupt(ModelError):
    """Files are damaged, cut short, or contradict each other."""

    code = "model_corrupt"


class EngineError(LikewiseError):
    """The engine failed to compute."""

    code = "engine_error"


class NotFinite(EngineError):
    """A vector came out with NaN or Inf; it isn't handed on."""

    code = "not_finite"


class EndpointError(LikewiseError):
    """A remote model's endpoint can't be used as it is; no text is to blame."""

    code = "endpoint_error"


class EndpointUnavailable(EndpointError):
    """A remote model's endpoint can't be reached, took too long, or takes no more now."""

    code = "endpoint_unavailable"
    retryable = True


class EndpointKeyRefused(EndpointError):
    """A remote model's endpoint wants a key, or another one than it was sent."""

    code = "endpoint_key_refused"


class EndpointRefused(EndpointError):
    """A remote model's endpoint doesn't take what it was sent; a text may be to blame."""

    code = "endpoint_refused"


class EndpointGarbled(EndpointError):
    """A remote model's endpoint answers something else than was asked; a text may be to blame."""

    code = "endpoint_garbled"


class DatabaseError(LikewiseError):
    """The database refused."""

    code = "database_error"


class DatabaseLocked(DatabaseError):
    """Another program held the database for longer than we were willing to wait."""

    code = "database_locked"
    retryable = True


class DatabaseUnavailable(DatabaseError):
    """The server can't be reached, is starting or stopping, or takes no more connections."""

    code = "database_unavailable"
    retryable = True


class DatabaseReadOnly(DatabaseError):
    """The file or folder doesn't allow writing."""

    code = "database_read_only"


class DatabaseFull(DatabaseError):
    """The disk is full; what was committed before is intact."""

    code = "database_full"
    retryable = True


class DatabaseCorrupt(DatabaseError):
    """The file isn't a database, or is damaged."""

    code = "database_corrupt"


class DatabaseMissing(DatabaseError):
    """There is no file at this path; Likewise never makes an empty one by mistake."""

    code = "database_missing"


class BindingError(LikewiseError):
    """A binding can't do what was asked."""

    code = "binding_error"


class BindingNotFound(BindingError):
    """No binding of that name."""

    code = "binding_not_found"


class BindingExists(BindingError):
    """A binding of that name, with another definition, is already there."""

    code = "binding_exists"


class NoKey(BindingError):
    """The table has no primary key or UNIQUE NOT NULL columns that name a row for good."""

    code = "no_key"


class SchemaDrift(BindingError):
    """A bound table or column is gone or renamed; the binding is paused until it is back."""

    code = "schema_drift"


class LeaseLost(BindingError):
    """Another worker took the binding over; nothing of this batch was published."""

    code = "lease_lost"
    retryable = True


class NotYetSearchable(BindingError):
    """What was written before a search isn't searchable within the time that the search gave it."""

    code = "not_yet_searchable"
    retryable = True


class MassDelete(BindingError):
    """Very many rows are gone at once, and the source may only be out of reach: nothing is removed.

    Mended by the rows' return, or by `likewise bind resume NAME --accept-deletes`.
    """

    code = "mass_delete"


class FileUnreadable(BindingError):
    """A bound file can't be read as what its name says: damaged, binary, too large, ill-formed.

    Attributes:
        path: the file, relative to the bound folder.
        reason: what is wrong with it, without the path and without what to do.
    """

    code = "file_unreadable"

    def __init__(
        self, message: str, *, path: str = "", reason: str = "", param: str | None = None
    ) -> None:
        super().__init__(message, param=param)
        self.path = path
        self.reason = reason or message


class RootMissing(BindingError):
    """The bound folder isn't there or can't be listed; nothing is taken to be deleted."""

    code = "root_missing"
    retryable = True


class SpaceMismatch(BindingError):
    """Vectors of another model, pooling, prompt, width or chunker: they are never mixed."""

    code = "space_mismatch"


class Overloaded(LikewiseError):
    """Too much work is waiting already."""

    code = "overloaded"
    retryable = True


class DeadlineExceeded(Overloaded):
    """The request can't be computed, or wasn't, within the time that it was given."""

    code = "deadline_exceeded"


class RateLimited(Overloaded):
    """This key asks for more in a minute than it may."""

    code = "rate_limited"


class AccessError(LikewiseError):
    """The caller may not do this."""

    code = "access_error"


class Unauthorised(AccessError):
    """There is no key with the request, or it isn't known here."""

    code = "unauthorised"


class Forbidden(AccessError):
    """The key is known and may not do this."""

    code = "forbidden"


class AdminError(LikewiseError):
    """A model can't be loaded, unloaded or reloaded as it was asked."""

    code = "admin_error"


class AddressInUse(LikewiseError):
    """Another program listens on that address."""

    code = "address_in_use"
