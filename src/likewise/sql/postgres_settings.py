"""Our schema's name, and what a session of ours asks of Postgres and of the network."""

from __future__ import annotations

SCHEMA = "likewise"
"""All our objects lie in it."""
CONNECT_SECONDS = 10
LOCK_SECONDS = 5
SILENT_SECONDS = 30
"""After so long without a sign of the other end it counts as gone, at both ends."""
STABLE_TEXT = (
    "DateStyle = 'ISO, YMD'",
    "IntervalStyle = 'postgres'",
    "TimeZone = 'UTC'",
    "extra_float_digits = 1",
    "bytea_output = 'hex'",
    "lc_monetary = 'C'",
)
"""Settings with which one value has one text, whatever the server's defaults are."""
_SETTINGS = "; ".join(
    f"SET {each}"
    for each in (
        *STABLE_TEXT,
        "client_encoding = 'UTF8'",
        "standard_conforming_strings = on",
        # A policy's hidden rows would look deleted: better an error.
        "row_security = off",
        # Some hundred keys at a time are looked up in tables that mostly lie in memory. If each is
        # taken for a seek of a disk, whole tables are read instead: filling 60,000 rows then took
        # the server 6.0 s, not 4.0.
        "random_page_cost = 1.1",
        # Nobody waits for us for long.
        f"lock_timeout = '{LOCK_SECONDS}s'",
    )
)
# A network that is cut says nothing: left alone, a kernel hopes for 15 minutes, and for two hours
# where it only listens. Both ends are told, as a session that nobody listens to keeps its locks.
_PROBES = {"idle": 10, "interval": 5, "count": 4}
PARAMETERS = {
    "connect_timeout": CONNECT_SECONDS,
    "application_name": "likewise",
    **{f"keepalives_{name}": value for name, value in _PROBES.items()},
    "tcp_user_timeout": 1000 * SILENT_SECONDS,
}
"""Of a connection whose address doesn't say otherwise."""
_SERVERS = {
    **{f"tcp_keepalives_{name}": str(value) for name, value in _PROBES.items()},
    "tcp_user_timeout": f"{SILENT_SECONDS}s",
    "idle_in_transaction_session_timeout": f"{SILENT_SECONDS}s",
}
_UNLESS_SAID = (
    "SELECT set_config(name, value, false) FROM (VALUES "
    + ", ".join(f"('{name}', '{value}')" for name, value in _SERVERS.items())
    # `client`: the address has it in its `options`.
    + ") AS ours (name, value) JOIN pg_settings USING (name) WHERE source <> 'client'"
)
# A role called like our schema finds our views before its own tables: those are meant.
_PATH = f"""
SELECT set_config('search_path', concat_ws(', ', string_agg(name, ', ' ORDER BY at),
    (SELECT '{SCHEMA}' FROM pg_extension
     WHERE extname = 'vector' AND extnamespace = to_regnamespace('{SCHEMA}'))), false)
FROM unnest(string_to_array(current_setting('search_path'), ','))
    WITH ORDINALITY AS given (part, at), trim(part) AS name
WHERE name NOT IN ('{SCHEMA}', '"{SCHEMA}"')
    AND (name <> '"$user"' OR current_user <> '{SCHEMA}')
"""
AT_FIRST = "; ".join((_SETTINGS, _UNLESS_SAID, _PATH))
"""What a new session executes."""
