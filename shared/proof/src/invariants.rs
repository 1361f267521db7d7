//! What must hold at any moment, in one shard and so in all of them.

use std::fmt;

macro_rules! invariants {
    ($($name:ident $sentence:literal,)+) => {
        /// The text of an invariant, as a literal.
        #[macro_export]
        macro_rules! sentence {
            $(($name) => { concat!(stringify!($name), ": ", $sentence) };)+
        }

        /// An invariant of the protocol.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Invariant {
            $(#[doc = $sentence] $name,)+
        }

        impl Invariant {
            /// All of them, in order.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Its number and its sentence.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self {
                    $(Self::$name => concat!(stringify!($name), ": ", $sentence),)+
                }
            }
        }

        impl fmt::Display for Invariant {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$name => stringify!($name),)+ })
            }
        }
    };
}

invariants! {
    I1 "MySQL has an unbroken prefix of every producer's batches, up to the producer's fence",
    I2 "no batch is counted twice, nor counted and still waiting behind the position",
    I3 "what was acknowledged is counted, or waits in the log, or is retained by ingest",
    I4 "every article's views and readers are the sums of its readers' rows",
    I5 "epoch, position and the producers' fences never go back",
    I6 "under one epoch at most one data set is flushed",
    I7 "an entry of the log never changes, and positions are consecutive",
    I8 "a number that is shown as the whole is what MySQL has and what waits to be flushed",
    I9 "views that the producers sent = counted + quarantined + dropped + repeated",
    I10 "after healing and draining, acknowledged <= counted <= attempted for every reader of every article",
}
