//! Tests of `csr`.
