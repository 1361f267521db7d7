//! The User-Agent bot filter's words.

use std::fmt;
use std::str::FromStr;

/// Words, separated by commas, one of which is in the `User-Agent` of every bot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bots(Vec<String>);

impl Bots {
    /// Each of them; none is empty.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.0
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
    fn the_list_is_read_and_written() {
        let bots: Bots = " My Robot,,x, ".parse().expect("a list");
        assert_eq!(bots.to_string(), "My Robot, x");
        assert!("".parse::<Bots>().expect("a list").words().is_empty());
    }
}
