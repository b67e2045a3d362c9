//! The nouns of PugDB, the contract every engine keeps, the seams, and the door to the outside world.
