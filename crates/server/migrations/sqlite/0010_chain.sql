-- The bundle chain: each step as it was signed (docs/formats/bundle-step.md). None is ever changed, and none removed: by them a node walks from
-- wherever it fell asleep.
CREATE TABLE chain_steps (
    epoch    INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    digest   BLOB    NOT NULL,
    signed   BLOB    NOT NULL,
    PRIMARY KEY (epoch, sequence)
) STRICT;
