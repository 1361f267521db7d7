//! What does not count, known by how it calls itself. Pure.

use footfall_shared::service::config;

/// Words, one of which is in the `User-Agent` of every bot, in whatever case.
pub(crate) struct Bots(Vec<String>);

impl Bots {
    pub(crate) fn new(bots: &config::Bots) -> Self {
        Self(bots.words().to_vec())
    }

    /// Whether a bot calls itself so.
    pub(crate) fn contain(&self, agent: &[u8]) -> bool {
        self.0.iter().any(|word| {
            let word = word.as_bytes();
            let mut parts = agent.windows(word.len());
            // The first letter alone: of a person's browser nearly all is passed over by it, on the way of every view.
            parts.any(|part| part[0].eq_ignore_ascii_case(&word[0]) && part.eq_ignore_ascii_case(word))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bots_are_known_by_a_word_in_any_case() {
        let bots = Bots::new(&config::Bots::default());
        for agent in [
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            "AhrefsBot/7.0",
            "Baiduspider",
            "facebookexternalhit/1.1",
            "Mozilla/5.0 HeadlessChrome/140.0",
            "CRAWLER",
            "bot",
        ] {
            assert!(bots.contain(agent.as_bytes()), "{agent}");
        }
        for agent in
            ["Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "", "b", "bo", "curl/8.0"]
        {
            assert!(!bots.contain(agent.as_bytes()), "{agent}");
        }
    }

    #[test]
    fn only_words_of_the_list_are_looked_for() {
        let bots = |list: &str| Bots::new(&list.parse().expect("a list"));
        assert!(bots("My Robot").contain(b"my robot/1") && !bots("My Robot").contain(b"Googlebot"));
        assert!(!bots("").contain(b"Googlebot"), "an empty list leaves nobody out");
    }
}
