-- The bundle chain: each step as it was signed (docs/formats/bundle-step.md). None is ever changed, and none removed: by them a node walks from
-- wherever it fell asleep.
CREATE TABLE chain_steps (
    epoch    BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    digest   BYTEA  NOT NULL,
    signed   BYTEA  NOT NULL,
    PRIMARY KEY (epoch, sequence)
);
