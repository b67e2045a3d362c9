//! Which record an operation is about: the zipfian generators of YCSB.

use crate::key::fnv_hash;
use crate::random::Random;

/// How steep the popularity falls, as YCSB has it.
const THETA: f64 = 0.99;

/// The sum of `1 / i^theta` for `i` from `from + 1` to `to`, added to `sum`.
#[expect(clippy::cast_precision_loss, reason = "ranks are far below 2^53")]
fn zeta(from: u64, to: u64, sum: f64) -> f64 {
    (from + 1..=to).fold(sum, |sum, rank| sum + 1.0 / (rank as f64).powf(THETA))
}

/// Ranks by popularity: 0 is the most popular, and the chance falls with the rank to the power of 0.99. After Gray et
/// al., "Quickly generating billion-record synthetic databases" (1994), as `ZipfianGenerator` of YCSB does it.
#[derive(Clone, Debug)]
pub struct Zipfian {
    items: u64,
    zeta: f64,
    zeta_of_two: f64,
    alpha: f64,
    eta: f64,
}

impl Zipfian {
    /// Ranks below `items`, of which there have to be two. Its cost is proportional to `items`.
    pub fn new(items: u64) -> Self {
        Self::with_zeta(items, zeta(0, items, 0.0))
    }

    fn with_zeta(items: u64, zeta_of_items: f64) -> Self {
        let mut zipfian = Self {
            items,
            zeta: zeta_of_items,
            zeta_of_two: zeta(0, 2, 0.0),
            alpha: 1.0 / (1.0 - THETA),
            eta: 0.0,
        };
        zipfian.set_eta();
        zipfian
    }

    /// Makes it `items` ranks; there may only come some.
    pub fn grow(&mut self, items: u64) {
        self.zeta = zeta(self.items, items, self.zeta);
        self.items = self.items.max(items);
        self.set_eta();
    }

    #[expect(clippy::cast_precision_loss, reason = "there are far fewer than 2^53 items")]
    fn set_eta(&mut self) {
        self.eta = (1.0 - (2.0 / self.items as f64).powf(1.0 - THETA)) / (1.0 - self.zeta_of_two / self.zeta);
    }

    /// Draws a rank.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a fraction of the items, which are far fewer than 2^53"
    )]
    pub fn next(&self, random: &mut Random) -> u64 {
        let drawn = random.unit();
        let scaled = drawn * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(THETA) {
            return 1;
        }
        let rank = self.items as f64 * (self.eta * drawn - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.items - 1)
    }
}

/// Zipfian popularity, the popular records strewn over all of them, as `ScrambledZipfianGenerator` of YCSB does it: the
/// rank is drawn from ten billion, whatever the number of records, and hashed onto them.
#[derive(Clone, Debug)]
pub struct ScrambledZipfian {
    ranks: Zipfian,
    records: u64,
}

/// YCSB's number of ranks, and the sum that belongs to it, which takes minutes to add up.
const RANKS: u64 = 10_000_000_000;
const ZETA_OF_RANKS: f64 = 26.469_028_201_783_02;

impl ScrambledZipfian {
    /// Records below `records`.
    pub fn new(records: u64) -> Self {
        Self { ranks: Zipfian::with_zeta(RANKS, ZETA_OF_RANKS), records }
    }

    /// Draws a record.
    pub fn next(&self, random: &mut Random) -> u64 {
        fnv_hash(self.ranks.next(random)) % self.records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u32 = 400_000;

    fn counts(records: u64, mut draw: impl FnMut(&mut Random) -> u64) -> Vec<u32> {
        let mut counts = vec![0; usize::try_from(records).unwrap()];
        let mut random = Random::new(3);
        for _ in 0..DRAWS {
            counts[usize::try_from(draw(&mut random)).unwrap()] += 1;
        }
        counts
    }

    fn share(count: u32) -> f64 {
        f64::from(count) / f64::from(DRAWS)
    }

    #[test]
    fn popularity_falls_with_the_rank_as_the_law_says() {
        let zipfian = Zipfian::new(1_000);
        let counts = counts(1_000, |random| zipfian.next(random));
        // The first two ranks are exact in this algorithm; the rest is an approximation of the sum by an integral.
        for rank in [0, 1] {
            let law = 1.0 / (f64::from(rank) + 1.0).powf(THETA) / zipfian.zeta;
            let drawn = share(counts[usize::try_from(rank).unwrap()]);
            assert!((drawn / law - 1.0).abs() < 0.03, "rank {rank}: {drawn}, by the law {law}");
        }
        let law = |ranks: u64| zeta(0, ranks, 0.0) / zipfian.zeta;
        for ranks in [10_u32, 100, 500] {
            let drawn = share(counts[..ranks as usize].iter().sum());
            assert!((drawn / law(ranks.into()) - 1.0).abs() < 0.06, "the first {ranks}: {drawn}");
        }
        assert_eq!(counts.len(), 1_000);
    }

    #[test]
    fn growing_equals_being_made_larger() {
        let mut grown = Zipfian::new(100);
        grown.grow(150);
        grown.grow(1_000);
        let made = Zipfian::new(1_000);
        assert!((grown.zeta - made.zeta).abs() < 1e-9);
        assert!((grown.eta - made.eta).abs() < 1e-9);
    }

    #[test]
    fn the_constant_of_ycsb_is_the_sum_of_its_ranks() {
        // By the integral, with the first million added up: the whole sum would take minutes.
        const EXACT: u64 = 1_000_000;
        let exponent = 1.0 - THETA;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let rest = ((RANKS as f64).powf(exponent) - (EXACT as f64).powf(exponent)) / exponent;
        assert!((zeta(0, EXACT, 0.0) + rest - ZETA_OF_RANKS).abs() < 1e-4);
    }

    #[test]
    fn scrambled_keeps_the_popularity_and_strews_it() {
        let scrambled = ScrambledZipfian::new(1_000);
        let mut counts = counts(1_000, |random| scrambled.next(random));
        // The most popular rank of ten billion has 1 / 26.47 of all draws, and is where its hash falls.
        let first = usize::try_from(fnv_hash(0) % 1_000).unwrap();
        assert_eq!(counts.iter().enumerate().max_by_key(|(_, count)| **count).map(|(at, _)| at), Some(first));
        assert!((share(counts[first]) - 1.0 / ZETA_OF_RANKS).abs() < 0.002, "{}", share(counts[first]));
        counts.sort_unstable();
        assert!(counts[0] > 0, "some record is never drawn");
    }
}
