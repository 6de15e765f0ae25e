//! Landfast's node agent.
