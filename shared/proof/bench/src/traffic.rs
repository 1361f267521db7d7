//! The views that all peers get: articles by Zipf's law, users uniformly, ids of ten bytes.

use std::sync::Arc;

/// Whose views of what are in the traffic.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Crowd {
    /// Articles.
    #[arg(long, default_value_t = Crowd::USUAL.articles)]
    pub(crate) articles: u32,
    /// Users.
    #[arg(long, default_value_t = Crowd::USUAL.users)]
    pub(crate) users: u32,
}

impl Crowd {
    /// What is measured with, unless something else is said.
    pub(crate) const USUAL: Self = Self { articles: 100_000, users: 1_000_000 };
}

/// Articles drawn in advance: drawing one costs more than sending it may.
const DRAWN: usize = 1 << 16;

/// An endless stream of views; the same seed draws the same ones.
#[derive(Clone)]
pub(crate) struct Traffic {
    articles: Arc<[u32]>,
    next: usize,
    users: u32,
    state: u64,
}

impl Traffic {
    /// A stream over these articles and users.
    pub(crate) fn new(Crowd { articles, users }: Crowd, seed: u64) -> Self {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let sums: Vec<f64> = (1..=articles)
            .scan(0.0, |sum, rank| {
                *sum += 1.0 / f64::from(rank);
                Some(*sum)
            })
            .collect();
        let all = sums.last().copied().unwrap_or(1.0);
        let mut draw = || {
            let point = (random(&mut state) >> 11) as f64 / (1u64 << 53) as f64 * all;
            u32::try_from(sums.partition_point(|sum| *sum < point)).unwrap_or(0).min(articles - 1)
        };
        let articles = (0..DRAWN).map(|_| draw()).collect();
        Self { articles, next: 0, users, state }
    }

    /// A stream over the same articles that draws other users, and begins elsewhere.
    pub(crate) fn other(&self, seed: u64) -> Self {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let next = random(&mut state) as usize % DRAWN;
        Self { next, state, ..self.clone() }
    }
}

impl Iterator for Traffic {
    /// Article and user, by their numbers.
    type Item = (u32, u32);

    fn next(&mut self) -> Option<Self::Item> {
        let article = self.articles[self.next % DRAWN];
        self.next += 1;
        let user = (random(&mut self.state) >> 32) % u64::from(self.users);
        Some((article, user as u32))
    }
}

/// Xorshift, <https://www.jstatsoft.org/article/view/v008i14>.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Writes a number as decimal digits over the whole of `out`.
pub(crate) fn put(out: &mut [u8], mut number: u32) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_article_is_viewed_most() {
        let mut counts = [0; 3];
        for (article, user) in Traffic::new(Crowd { articles: 1000, users: 50 }, 7).take(20_000) {
            assert!(article < 1000 && user < 50);
            if let Some(count) = counts.get_mut(article as usize) {
                *count += 1;
            }
        }
        assert!(counts[0] > counts[1] && counts[1] > counts[2], "{counts:?}");
        let mut digits = [0; 4];
        put(&mut digits, 120);
        assert_eq!(&digits, b"0120");
    }
}
