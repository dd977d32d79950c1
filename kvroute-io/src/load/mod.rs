//! Load reports from the engines' `/metrics`.
