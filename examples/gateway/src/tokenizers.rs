//! Which model's prompts are tokenized by what.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kvroute_core::Error;
use kvroute_io::tokenize::{
    Endpoint as Tokenized, PoolOptions, TokenizedPrompt, Tokenizer, TokenizerOptions, TokenizerPool,
};

use crate::config::{TokenizerConfig, invalid};
use crate::request::{Asked, Endpoint, PromptForm};

/// Tokenizers by served model.
#[derive(Debug, Default)]
pub struct Tokenizers {
    pools: BTreeMap<String, Arc<TokenizerPool>>,
}

impl Tokenizers {
    /// Reads the tokenizers that are configured. Models with one folder share a tokenizer only if they are one.
    ///
    /// # Errors
    ///
    /// The model, and what is wrong with its files.
    pub fn load(configs: &BTreeMap<String, TokenizerConfig>) -> Result<Self, Error> {
        let load = |(model, config): (&String, &TokenizerConfig)| {
            let fail = |error: &dyn std::fmt::Display| invalid(format!("tokenizers.{model}: {error}"));
            let mut options = TokenizerOptions::default();
            if let Some(path) = &config.chat_template {
                let source = std::fs::read_to_string(path);
                let source = source.map_err(|error| fail(&format_args!("{}: {error}", path.display())))?;
                options.chat_template = Some(source);
            }
            let tokenizer = Tokenizer::from_dir(&config.path, &options).map_err(|error| fail(&error))?;
            let pool = TokenizerPool::new(Arc::new(tokenizer), &PoolOptions::default());
            Ok((model.clone(), Arc::new(pool.map_err(|error| fail(&error))?)))
        };
        configs.iter().map(load).collect::<Result<_, _>>().map(|pools| Self { pools })
    }

    /// All of them, by served model.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &TokenizerPool)> {
        self.pools.iter().map(|(model, pool)| (model.as_str(), &**pool))
    }

    /// Puts token ids in place of a prompt's text, where its model has a tokenizer. Where that cannot say what the
    /// engine will compute the text stays, and so it does where the request is one that the tokenizer refuses: whether
    /// to refuse it is the engine's to say.
    pub(crate) async fn tokenize(&self, served: &str, asked: &mut Asked, body: &Bytes) {
        let endpoint = match asked.endpoint {
            Endpoint::Completions => Tokenized::Completions,
            Endpoint::Chat => Tokenized::ChatCompletions,
            Endpoint::Responses => Tokenized::Responses,
            Endpoint::Other => return,
        };
        let PromptForm::Text(_) = asked.prompt else { return };
        let Some(pool) = self.pools.get(served) else { return };
        match pool.submit(endpoint, body.clone()).await {
            Ok(prompts) => asked.take_longest(prompts),
            Err(error) => {
                tracing::debug!(%error, "a prompt could not be tokenized");
                asked.untokenized = Some("refused");
            }
        }
    }
}

impl Asked {
    fn take_longest(&mut self, prompts: Vec<TokenizedPrompt>) {
        let longest = prompts.into_iter().max_by_key(|prompt| prompt.as_prompt().tokens());
        match longest {
            Some(TokenizedPrompt::TokenIds(token_ids)) => self.prompt = PromptForm::TokenIds(token_ids),
            Some(TokenizedPrompt::Text { reason, .. }) => self.untokenized = Some(reason.name()),
            None => {}
        }
    }
}
