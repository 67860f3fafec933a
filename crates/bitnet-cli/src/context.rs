//! Advice about a full context.

use bitnet::{Error, Model};

/// `error`; if it says that the context is full, also how to get one that is long enough for `reply` more tokens.
pub(crate) fn explain(error: Error, model: &Model, reply: usize) -> anyhow::Error {
    let Error::ContextFull { used, wanted, .. } = error else {
        return error.into();
    };
    let needed = used.saturating_add(wanted).saturating_add(reply);
    let own = model.architecture().context;
    let advice = advice(own, model.context(), needed, &format!("at least {needed}"));
    let message = format!("{error}; {advice}");
    anyhow::Error::new(error).context(message)
}

/// How a text that fills the context of `model` can go on.
pub(crate) fn longer(model: &Model) -> String {
    let (own, capacity) = (model.architecture().context, model.context());
    advice(
        own,
        capacity,
        capacity + 1,
        &format!("more than {capacity}"),
    )
}

/// Advice where `capacity` tokens are too few: `needed` are needed, `ask` in words, and the model was made for `own`.
fn advice(own: usize, capacity: usize, needed: usize, ask: &str) -> String {
    if needed <= own {
        format!("ask for {ask} with -c (--context); the model's own length is {own}")
    } else if capacity < own {
        format!(
            "with -c (--context) it can be up to the model's own length, {own}, which is too short too: shorten the text"
        )
    } else {
        format!(
            "the model's own length is {own}, so that a larger -c (--context) helps little: shorten the text"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_helps() {
        let helps = advice(512, 8, 25, "at least 25");
        assert!(helps.starts_with("ask for at least 25 with -c"), "{helps}");
        assert!(advice(8192, 4096, 9000, "").contains("own length, 8192, which is too short"));
        assert!(advice(512, 512, 513, "").contains("shorten the text"));
    }
}
