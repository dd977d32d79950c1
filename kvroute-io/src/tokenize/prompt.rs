//! What comes out: token ids, or text and why.

use kvroute_core::Prompt;

/// Which request a body is. Paths are those of vLLM 0.32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Endpoint {
    /// `/v1/completions`: `prompt` is a text, token ids, or a list of either.
    Completions,
    /// `/v1/chat/completions`: `messages`, rendered by the chat template.
    ChatCompletions,
    /// `/v1/responses`: `instructions` and `input`, made into messages.
    Responses,
}

impl Endpoint {
    /// The field that holds the conversation.
    pub(super) fn prompt_field(self) -> &'static str {
        match self {
            Self::Completions => "prompt",
            Self::ChatCompletions => "messages",
            Self::Responses => "input",
        }
    }
}

/// A prompt as the engine will see it, or as text if that cannot be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenizedPrompt {
    /// The engine's token ids; `[n]`.
    TokenIds(Vec<u32>),
    /// Bytes that begin alike where conversations begin alike, for affinity by text.
    Text {
        /// The part of the request's body that holds the conversation; `[n]` bytes.
        text: Vec<u8>,
        /// Why there are no token ids.
        reason: Untokenized,
    },
}

impl TokenizedPrompt {
    /// The prompt as the router takes it.
    #[must_use]
    pub fn as_prompt(&self) -> Prompt<'_> {
        match self {
            Self::TokenIds(token_ids) => Prompt::TokenIds(token_ids),
            Self::Text { text, .. } => Prompt::Text(text),
        }
    }

    /// A body as text: from the field that holds the conversation on, so that what stands before it (a temperature)
    /// does not matter. What stands behind it does, but only to the last block.
    pub(super) fn text(endpoint: Endpoint, body: &[u8], reason: Untokenized) -> Self {
        let field = format!("\"{}\"", endpoint.prompt_field());
        let start = body.windows(field.len()).position(|window| window == field.as_bytes()).unwrap_or(0);
        Self::Text { text: body[start..].to_vec(), reason }
    }
}

/// Why a prompt has no token ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Untokenized {
    /// The pool's queue was full, or the request was not tokenized within [`PoolOptions::wait`](super::PoolOptions::wait).
    Overloaded,
    /// It has images, audio, video or embeddings, whose tokens the engine's processor decides.
    Media,
    /// Part of the conversation is stored in the engine (`previous_response_id`, `previous_input_messages`), or comes
    /// from a tool that runs there.
    StoredConversation,
    /// A chat, and the tokenizer's folder has no chat template. The engine may have been given one.
    NoChatTemplate,
    /// A chat of a model whose chats the engine renders by code of its own, not by a template: gpt-oss, models with
    /// Mistral's `tekken.json`, DeepSeek V3.2 and V4, Kimi K3, Kimi Audio, Inkling (vLLM 0.32).
    OwnRenderer,
    /// Something that is not exactly reproduced here (a number that JSON parsers read differently, `suffix`,
    /// truncation to the model's length); see the module's documentation.
    NotReproducible,
}

impl Untokenized {
    /// All reasons, for tables of counters.
    pub const ALL: [Self; 6] = [
        Self::Overloaded,
        Self::Media,
        Self::StoredConversation,
        Self::NoChatTemplate,
        Self::OwnRenderer,
        Self::NotReproducible,
    ];

    /// A short name for metrics and logs, `snake_case`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Overloaded => "overloaded",
            Self::Media => "media",
            Self::StoredConversation => "stored_conversation",
            Self::NoChatTemplate => "no_chat_template",
            Self::OwnRenderer => "own_renderer",
            Self::NotReproducible => "not_reproducible",
        }
    }
}
