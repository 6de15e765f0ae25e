-- Times are Unix seconds. A body is the whole object as JSON text; the columns beside it are what is looked up.

-- `mark` names the commit that made the revision: a database that has lost commits shows another one.
CREATE TABLE state (
    one             BIGINT PRIMARY KEY CHECK (one = 1),
    trust_domain    TEXT   NOT NULL,
    epoch           BIGINT NOT NULL,
    revision        BIGINT NOT NULL,
    mark            TEXT   NOT NULL,
    journal_version BIGINT NOT NULL,
    bundle_sequence BIGINT NOT NULL
);

-- Who writes here. `boot` is the process, `commits` its last commit that wrote: so it learns whether one was made whose answer it lost.
CREATE TABLE servers (
    id         TEXT   PRIMARY KEY,
    boot       TEXT   NOT NULL,
    commits    BIGINT NOT NULL,
    started_at BIGINT NOT NULL
);

-- What each revision did, in the transaction that took it. Every server follows it. `body` is null for a removal.
CREATE TABLE changes (
    revision BIGINT  PRIMARY KEY,
    kind     TEXT    NOT NULL,
    object   TEXT    NOT NULL,
    body     TEXT,
    mark     TEXT    NOT NULL,
    at       BIGINT  NOT NULL
);
CREATE INDEX changes_by_time ON changes (at);

CREATE TABLE federated_bundles (
    trust_domain TEXT   PRIMARY KEY,
    body         TEXT   NOT NULL,
    revision     BIGINT NOT NULL
);

-- `likeness` is the SHA-256 of SPIFFE ID, parent and selectors: an index takes no key of their size.
CREATE TABLE entries (
    id         TEXT   PRIMARY KEY,
    likeness   TEXT   NOT NULL UNIQUE,
    parent_id  TEXT   NOT NULL,
    selectors  TEXT   NOT NULL,
    expires_at BIGINT,
    created_by TEXT   NOT NULL,
    body       TEXT   NOT NULL,
    revision   BIGINT NOT NULL
);
CREATE INDEX entries_by_parent ON entries (parent_id);
CREATE INDEX entries_by_expiry ON entries (expires_at) WHERE expires_at IS NOT NULL;

-- What SPIRE's entry has no field for. An entry without a row has the defaults.
CREATE TABLE entry_policies (
    entry_id TEXT   PRIMARY KEY REFERENCES entries (id) ON DELETE CASCADE,
    body     TEXT   NOT NULL,
    revision BIGINT NOT NULL
);

CREATE TABLE entry_federates (
    entry_id     TEXT NOT NULL REFERENCES entries (id) ON DELETE CASCADE,
    trust_domain TEXT NOT NULL REFERENCES federated_bundles (trust_domain),
    PRIMARY KEY (entry_id, trust_domain)
);
CREATE INDEX entry_federates_by_domain ON entry_federates (trust_domain);

CREATE TABLE agents (
    id       TEXT   PRIMARY KEY,
    body     TEXT   NOT NULL,
    revision BIGINT NOT NULL
);

-- Only the SHA-256 of a token is ever here.
CREATE TABLE join_tokens (
    hash         BYTEA   PRIMARY KEY,
    expires_at   BIGINT  NOT NULL,
    alias        TEXT,
    redeemed_at  BIGINT,
    redeemed_key BYTEA,
    agent_id     TEXT,
    revoked      BOOLEAN NOT NULL DEFAULT FALSE
);
CREATE INDEX join_tokens_by_agent ON join_tokens (agent_id) WHERE agent_id IS NOT NULL;

CREATE TABLE federation_relationships (
    trust_domain TEXT   PRIMARY KEY,
    body         TEXT   NOT NULL,
    revision     BIGINT NOT NULL
);

-- Each server has authorities of its own; their keys are on its disk. All of them are in the bundle.
CREATE TABLE authorities (
    id             TEXT    PRIMARY KEY,
    server         TEXT    NOT NULL,
    place          BIGINT  NOT NULL,
    kind           TEXT    NOT NULL CHECK (kind IN ('x509', 'jwt', 'wit')),
    slot           TEXT    NOT NULL CHECK (slot IN ('prepared', 'active', 'old')),
    key_name       TEXT    NOT NULL UNIQUE,
    certificate    BYTEA,
    chain          BYTEA,
    root           TEXT,
    public_key     BYTEA   NOT NULL,
    created_at     BIGINT  NOT NULL,
    activated_at   BIGINT,
    not_before     BIGINT  NOT NULL,
    not_after      BIGINT  NOT NULL,
    last_svid_ends BIGINT,
    tainted        BOOLEAN NOT NULL
);
CREATE UNIQUE INDEX authorities_one_a_slot ON authorities (server, kind, slot) WHERE slot <> 'old';

-- Authorities of our trust domain that sign elsewhere, as in SQLite.
CREATE TABLE appended_authorities (
    kind       TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    body       BYTEA   NOT NULL,
    expires_at BIGINT,
    tainted    BOOLEAN NOT NULL,
    revoked    BOOLEAN NOT NULL,
    added_by   TEXT    NOT NULL,
    added_at   BIGINT  NOT NULL,
    PRIMARY KEY (kind, id)
);

CREATE TABLE upstream_authorities (
    kind       TEXT   NOT NULL,
    id         TEXT   NOT NULL,
    place      BIGINT NOT NULL,
    body       BYTEA  NOT NULL,
    expires_at BIGINT,
    trust      TEXT   NOT NULL CHECK (trust IN ('trusted', 'tainted', 'revoked')),
    PRIMARY KEY (kind, id)
);

CREATE TABLE issued (
    number       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind         TEXT   NOT NULL CHECK (kind IN ('x509', 'jwt', 'wit')),
    spiffe_id    TEXT   NOT NULL,
    serial       TEXT   NOT NULL,
    key_hash     BYTEA,
    authority_id TEXT   NOT NULL,
    requester    TEXT   NOT NULL,
    attestation  TEXT   NOT NULL,
    entry_id     TEXT,
    minted       BOOLEAN NOT NULL,
    not_before   BIGINT NOT NULL,
    not_after    BIGINT NOT NULL,
    issued_at    BIGINT NOT NULL
);
CREATE INDEX issued_by_key ON issued (key_hash) WHERE key_hash IS NOT NULL AND NOT minted;
CREATE INDEX issued_by_id ON issued (spiffe_id);
CREATE INDEX issued_by_end ON issued (not_after);
