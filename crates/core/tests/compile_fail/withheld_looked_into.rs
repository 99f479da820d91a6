//! Nobody looks at a withheld result.
use holdfast_core::operation::Answer;
use holdfast_core::pipeline::Withheld;

fn field(withheld: Withheld<Answer>) -> Answer {
    withheld.value
}

fn reference(withheld: &Withheld<Answer>) -> &Answer {
    withheld.commit_to(|answer| answer)
}

fn main() {}
