//! Prompts and chats to token ids.
