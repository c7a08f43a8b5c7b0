//! What peers say to each other once bytes move.
