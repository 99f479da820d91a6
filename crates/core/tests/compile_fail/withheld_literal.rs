//! A withheld result comes of a permit's work alone.
use holdfast_core::operation::Answer;
use holdfast_core::pipeline::Withheld;

fn any<T>() -> T {
    unimplemented!()
}

fn forge(value: Answer) -> Withheld<Answer> {
    Withheld { value, ..any() }
}

fn main() {}
