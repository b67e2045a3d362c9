//! The durable engine: log, trees of sorted tables, manifest, recovery.
