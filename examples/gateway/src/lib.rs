//! An OpenAI-compatible reverse proxy that routes by prefix.
