/// Length limits, sampling parameters and stop conditions of an answer; greedy decoding by default.
///
///     var options = GenerationOptions()
///     options.maxTokens = 64
///     options.temperature = 0.7  // sampling; 0 is greedy decoding
///     options.seed = 1
///     options.stop = ["\n"]
///     let request = Request(question: "Describe the image.", images: [.file("photo.jpg")], options: options)
///
/// The logits of each step are changed in this order: logit bias, repetition penalty, presence and frequency penalty.
/// Greedy decoding takes the largest. Sampling divides them by the temperature, then keeps tokens by top-k, top-p and
/// min-p, in the order of transformers.
public struct GenerationOptions: Sendable, Hashable {
  /// Maximum number of new tokens.
  public var maxTokens = 128
  /// Sampling temperature; 0 for greedy decoding.
  public var temperature = 0.0
  /// Number of most likely tokens to sample from; 0 for all.
  public var topK = 50
  /// Total probability of the most likely tokens to sample from.
  public var topP = 1.0
  /// Minimum probability of a token to sample, as a fraction of that of the most likely token; 0 for none.
  ///
  /// Source: Nguyen et al. 2024, Turning Up the Heat: Min-p Sampling.
  public var minP = 0.0
  /// Random seed for sampling. Of several answers, answer `i` from 0 has the seed plus `i`.
  public var seed: UInt64 = 0

  /// Divisor of the positive logits, and factor of the negative ones, of each token in the window of `repeatLastN`; 1
  /// for none.
  ///
  /// Source: Keskar et al. 2019, CTRL, section 4.1; `RepetitionPenaltyLogitsProcessor` of transformers.
  public var repeatPenalty = 1.0
  /// Number of last tokens of prompt and answer that `repeatPenalty` applies to, images not counted; -1 for all.
  public var repeatLastN = 64
  /// Subtracted from the logit of each token that the answer contains.
  ///
  /// Source: OpenAI's API reference, `presence_penalty`.
  public var presencePenalty = 0.0
  /// Subtracted from the logit of each token, times the number of its occurrences in the answer.
  ///
  /// Source: OpenAI's API reference, `frequency_penalty`.
  public var frequencyPenalty = 0.0
  /// Added to the logits of tokens, by id.
  public var logitBias: [Int: Double] = [:]

  /// Texts that end an answer, which does not include them.
  public var stop: [String] = []
  /// The form of the answer; `nil` for any text. An answer that would reach the maximum number of tokens is completed in
  /// the shortest way before it.
  public var constraint: OutputConstraint?
  /// Number of most likely tokens whose log-probabilities are recorded in each step, next to that of the chosen one;
  /// `nil` to record none.
  public var logprobs: Int?
  /// Texts whose likelihood as the beginning of the answer is reported, such as `Yes` and `No`.
  public var scoredChoices: [String] = []
  /// Number of answers to the prompt, which is prefilled once.
  public var answerCount = 1
  /// Whether generation continues after the EOS token.
  public var ignoresEOS = false
  /// Context length of prompt, images and answer in tokens; `nil` for the model's own.
  public var contextLength: Int?

  /// Maximum of `logprobs`, as in OpenAI's API.
  public static let maxLogprobs = 20
  /// Maximum of `answerCount`, as in OpenAI's API.
  public static let maxAnswerCount = 128

  public init() {}
}
