//! A receipt comes of a durable record alone.
use holdfast_core::pipeline::Receipt;

fn any<T>() -> T {
    unimplemented!()
}

fn forge() -> Receipt {
    Receipt { operation: any(), ..any() }
}

fn main() {}
