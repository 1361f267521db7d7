//! The seeds, and what is close to them: cut off anywhere, each byte another one, two of them in one.

use footfall_fuzz::TARGETS;

/// Of one seed: a longer one is cut off, and changed, at some places only.
const CHANGES_MAX: usize = 40;
/// What a byte becomes.
const BYTES: [u8; 6] = [0, b'\n', b'"', 0x7f, 0x80, 0xff];

#[test]
fn every_parser_takes_its_seeds_and_what_is_close_to_them() {
    for target in &TARGETS {
        let seeds = target.seeds();
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        let mut executions = 0_u64;
        let mut run = |bytes: &[u8]| {
            (target.run)(bytes);
            executions += 1;
        };
        for (index, seed) in seeds.iter().enumerate() {
            run(seed);
            run(&[seed.as_slice(), &seeds[(index + 1) % seeds.len()]].concat());
            for at in (0..seed.len()).step_by(seed.len() / CHANGES_MAX + 1) {
                run(&seed[..at]);
                run(&seed[at..]);
                for byte in BYTES {
                    let mut changed = seed.clone();
                    changed[at] = byte;
                    run(&changed);
                }
            }
        }
        println!("{}: {executions} executions from {} seeds", target.name, seeds.len());
    }
}
