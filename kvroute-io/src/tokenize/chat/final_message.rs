//! `continue_final_message`: the chat ends where the last message's text ends (transformers 5.23,
//! `render_jinja_template`). The text gets a mark, and the rendering is cut there.

use serde_json::Value as Json;

use super::{Error, Message, refused};

const MARK: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

/// The text that is left open.
#[derive(Debug)]
pub(super) struct FinalMessage {
    text: String,
}

impl FinalMessage {
    /// Marks the last message's content.
    pub(super) fn mark(message: &mut Message, template: &str) -> Result<Self, Error> {
        let content = message
            .get_mut("content")
            .ok_or_else(|| refused("continue_final_message: the last message has no content"))?;
        if !template.contains("content") {
            return Err(refused("continue_final_message: the template does not use contents"));
        }
        let text = match content {
            Json::String(text) => text,
            Json::Array(parts) => parts
                .iter_mut()
                .rev()
                .find_map(|part| match part.get_mut("text") {
                    Some(Json::String(text)) => Some(text),
                    _ => None,
                })
                .ok_or_else(|| refused("continue_final_message: the last message has no text"))?,
            _ => return Err(refused("continue_final_message: the last message's content is not text")),
        };
        let open = Self { text: text.clone() };
        text.push_str(MARK);
        Ok(open)
    }

    /// Cuts the rendering at the mark.
    pub(super) fn cut(self, mut rendered: String) -> Result<String, Error> {
        let place = rendered
            .rfind(MARK.trim_end())
            .filter(|_| rendered.contains(self.text.trim()))
            .ok_or_else(|| refused("continue_final_message: the template does not show the last message"))?;
        // Where the template trimmed the message, the space behind the mark went, and so do those before it.
        let trimmed = !rendered[place..].starts_with(MARK);
        rendered.truncate(place);
        if trimmed {
            rendered.truncate(rendered.trim_end().len());
        }
        Ok(rendered)
    }
}
