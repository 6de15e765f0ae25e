//! Testkit: a whole Landfast in a test process.
