//! `convergd values`: the value tables of checkpoints that are there, into the cache.

use super::ConfigArgument;
use clap::Args;
use std::ops::RangeInclusive;

/// Which tables to make.
#[derive(Args)]
pub struct Arguments {
    /// The file.
    #[command(flatten)]
    pub config: ConfigArgument,
    /// Only every N-th checkpoint, from the I-th on: I from 0 to N−1, such as 0/4
    #[arg(long, value_name = "I/N", value_parser = shard, default_value = "0/1")]
    pub shard: (usize, usize),
    /// Only pairs from this step to that, both included; either may be left out, such as 1000..5000 or ..5000
    #[arg(long, value_name = "FROM..TO", value_parser = steps, default_value = "..")]
    pub steps: RangeInclusive<u64>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

fn shard(text: &str) -> Result<(usize, usize), String> {
    let parts = text
        .split_once('/')
        .and_then(|(index, count)| Some((index.trim().parse().ok()?, count.trim().parse().ok()?)));
    match parts {
        Some((_, 0)) => Err("there must be one shard at least, such as 0/1".to_owned()),
        Some((index, count)) if index < count => Ok((index, count)),
        Some((index, count)) => Err(format!(
            "there are {count} shards, counted from 0, so {index} is none of them; give 0/{count} to {}/{count}",
            count - 1
        )),
        None => Err("give the number of the shard and how many there are, such as 0/4".to_owned()),
    }
}

fn steps(text: &str) -> Result<RangeInclusive<u64>, String> {
    let example = "give the first and the last step, such as 1000..5000, 1000.. or ..5000";
    let (first, last) = text.split_once("..").ok_or(example)?;
    let bound = |text: &str, default| match text.trim() {
        "" => Some(default),
        number => number.parse().ok(),
    };
    let (first, last) = bound(first, 0).zip(bound(last, u64::MAX)).ok_or(example)?;
    match first <= last {
        true => Ok(first..=last),
        false => Err(format!("no step lies between {first} and {last}; {example}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_count_from_0() {
        assert_eq!(shard("0/1"), Ok((0, 1)));
        assert_eq!(shard("3/4"), Ok((3, 4)));
        assert!(shard("4/4").expect_err("refused").contains("give 0/4 to 3/4"));
        for wrong in ["", "1", "a/2", "-1/2", "1/0", "0/0"] {
            assert!(shard(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn steps_have_both_ends_or_one() {
        assert_eq!(steps(".."), Ok(0..=u64::MAX));
        assert_eq!(steps("7..7"), Ok(7..=7));
        assert_eq!(steps("1000.."), Ok(1000..=u64::MAX));
        assert_eq!(steps("..5000"), Ok(0..=5000));
        for wrong in ["", "7", "9..7", "a..", "1..=2", "-1..2"] {
            assert!(steps(wrong).is_err(), "{wrong}");
        }
    }
}
