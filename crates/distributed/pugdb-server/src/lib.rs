//! The PugDB server: RESP over TCP on the embedded database.
