//! Landfast's signing server.
