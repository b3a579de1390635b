//! Names of commands and events, as outsiders write them.

/// `message:new`, as text.
macro_rules! wire_name {
    ($family:ident : $verb:ident $(: $more:ident)?) => {
        concat!(stringify!($family), ":", stringify!($verb) $(, ":", stringify!($more))?)
    };
}

pub(crate) use wire_name;
