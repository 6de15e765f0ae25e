-- Times are Unix seconds. Lists are JSON arrays in their canonical order.

CREATE TABLE state (
    one             INTEGER PRIMARY KEY CHECK (one = 1),
    trust_domain    TEXT    NOT NULL,
    revision        INTEGER NOT NULL,
    journal_version INTEGER NOT NULL,
    bundle_sequence INTEGER NOT NULL
) STRICT;

CREATE TABLE federated_bundles (
    trust_domain TEXT    PRIMARY KEY,
    body         TEXT    NOT NULL,
    revision     INTEGER NOT NULL
) STRICT;

CREATE TABLE entries (
    id               TEXT    PRIMARY KEY,
    spiffe_id        TEXT    NOT NULL,
    parent_id        TEXT    NOT NULL,
    selectors        TEXT    NOT NULL,
    x509_svid_ttl    INTEGER,
    jwt_svid_ttl     INTEGER,
    admin            INTEGER NOT NULL,
    downstream       INTEGER NOT NULL,
    expires_at       INTEGER,
    dns_names        TEXT    NOT NULL,
    revision_number  INTEGER NOT NULL,
    store_svid       INTEGER NOT NULL,
    hint             TEXT    NOT NULL,
    created_at       INTEGER NOT NULL,
    created_by       TEXT    NOT NULL,
    no_x509_prefetch INTEGER NOT NULL,
    include_jti      INTEGER NOT NULL,
    revision         INTEGER NOT NULL,
    UNIQUE (spiffe_id, parent_id, selectors)
) STRICT;
CREATE INDEX entries_by_parent ON entries (parent_id);
CREATE INDEX entries_by_expiry ON entries (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE entry_federates (
    entry_id     TEXT    NOT NULL REFERENCES entries (id) ON DELETE CASCADE,
    place        INTEGER NOT NULL,
    trust_domain TEXT    NOT NULL REFERENCES federated_bundles (trust_domain),
    PRIMARY KEY (entry_id, place),
    UNIQUE (entry_id, trust_domain)
) STRICT;
CREATE INDEX entry_federates_by_domain ON entry_federates (trust_domain);

CREATE TABLE agents (
    id               TEXT    PRIMARY KEY,
    attestation_type TEXT    NOT NULL,
    serial           TEXT    NOT NULL,
    not_after        INTEGER NOT NULL,
    new_serial       TEXT,
    new_not_after    INTEGER,
    selectors        TEXT    NOT NULL,
    can_reattest     INTEGER NOT NULL,
    agent_version    TEXT    NOT NULL,
    key_hash         BLOB    NOT NULL,
    revision         INTEGER NOT NULL
) STRICT;

-- Only the SHA-256 of a token is ever here.
CREATE TABLE join_tokens (
    hash         BLOB    PRIMARY KEY,
    expires_at   INTEGER NOT NULL,
    alias        TEXT,
    redeemed_at  INTEGER,
    redeemed_key BLOB,
    agent_id     TEXT,
    revoked      INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX join_tokens_by_agent ON join_tokens (agent_id) WHERE agent_id IS NOT NULL;

CREATE TABLE tombstones (
    revision   INTEGER PRIMARY KEY,
    kind       TEXT    NOT NULL,
    object     TEXT    NOT NULL,
    removed_at INTEGER NOT NULL
) STRICT;

CREATE TABLE authorities (
    id             TEXT    PRIMARY KEY,
    place          INTEGER NOT NULL,
    kind           TEXT    NOT NULL CHECK (kind IN ('x509', 'jwt')),
    slot           TEXT    NOT NULL CHECK (slot IN ('prepared', 'active', 'old')),
    key_name       TEXT    NOT NULL UNIQUE,
    certificate    BLOB,
    public_key     BLOB    NOT NULL,
    created_at     INTEGER NOT NULL,
    activated_at   INTEGER,
    not_before     INTEGER NOT NULL,
    not_after      INTEGER NOT NULL,
    last_svid_ends INTEGER
) STRICT;
CREATE UNIQUE INDEX authorities_one_a_slot ON authorities (kind, slot) WHERE slot <> 'old';

CREATE TABLE issued (
    number       INTEGER PRIMARY KEY,
    kind         TEXT    NOT NULL CHECK (kind IN ('x509', 'jwt')),
    spiffe_id    TEXT    NOT NULL,
    serial       TEXT    NOT NULL,
    key_hash     BLOB,
    authority_id TEXT    NOT NULL,
    requester    TEXT    NOT NULL,
    attestation  TEXT    NOT NULL,
    entry_id     TEXT,
    not_before   INTEGER NOT NULL,
    not_after    INTEGER NOT NULL,
    issued_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX issued_by_key ON issued (key_hash, spiffe_id) WHERE key_hash IS NOT NULL;
CREATE INDEX issued_by_id ON issued (spiffe_id);
CREATE INDEX issued_by_end ON issued (not_after);
