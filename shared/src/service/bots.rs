//! What does not count, known by how it calls itself. Pure.

use std::fmt;
use std::str::FromStr;

/// Words, separated by commas, one of which is in the `User-Agent` of every bot, in whatever case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bots(Vec<String>);

impl Bots {
    /// Whether a bot calls itself so.
    #[must_use]
    pub fn contain(&self, agent: &[u8]) -> bool {
        self.0.iter().any(|word| {
            let word = word.as_bytes();
            let mut parts = agent.windows(word.len());
            // The first letter alone: of a person's browser nearly all is passed over by it, on the way of every view.
            parts.any(|part| part[0].eq_ignore_ascii_case(&word[0]) && part.eq_ignore_ascii_case(word))
        })
    }
}

impl Default for Bots {
    fn default() -> Self {
        let words = ["bot", "crawl", "spider", "slurp", "headless", "externalhit"];
        Self(words.map(str::to_owned).to_vec())
    }
}

impl FromStr for Bots {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()))
    }
}

impl fmt::Display for Bots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bots_are_known_by_a_word_in_any_case() {
        let bots = Bots::default();
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
    fn the_list_is_read_and_written() {
        let bots: Bots = " My Robot,,x, ".parse().expect("a list");
        assert_eq!(bots.to_string(), "My Robot, x");
        assert!(bots.contain(b"my robot/1") && !bots.contain(b"Googlebot"));
        assert!(!"".parse::<Bots>().expect("a list").contain(b"Googlebot"), "an empty list leaves nobody out");
    }
}
