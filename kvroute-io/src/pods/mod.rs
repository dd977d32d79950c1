//! Which pods there are, and what each says of itself.
