//! PugDB as a library: databases, keyspaces, batches, snapshots.
