import ArgumentParser
import CommandLineSupport
import Foundation
import PDrop
import Storage

/// Options of generation and sampling.
struct GenerationArguments: ParsableArguments {
  @Option(
    name: [.customShort("n"), .customLong("n-predict")], parsing: .unconditional, help: "Maximum number of new tokens.")
  var maxNewTokens = 128

  @Flag(name: .customLong("ignore-eos"), help: "Continue generating after the EOS token.")
  var ignoresEOS = false

  @Option(help: "Text that ends the answer, which does not include it; repeat for several.")
  var stop: [String] = []

  @Option(
    name: [.customShort("c"), .customLong("ctx-size")], parsing: .unconditional,
    help: "Context length in tokens, images included. (default: the maximum of the model)")
  var contextLength: Int?

  @Option(
    name: [.customLong("temp"), .customLong("temperature")], parsing: .unconditional,
    help: "Sampling temperature; 0 for greedy decoding.")
  var temperature = 0.0

  @Option(
    name: .customLong("top-k"), parsing: .unconditional, help: "Sample from the k most likely tokens; 0 disables.")
  var topK = 50

  @Option(
    name: .customLong("top-p"), parsing: .unconditional,
    help: "Sample from the most likely tokens up to this total probability; 1 disables.")
  var topP = 1.0

  @Option(
    name: .customLong("min-p"), parsing: .unconditional,
    help: "Sample from tokens with at least this fraction of the highest probability; 0 disables.")
  var minP = 0.0

  @Option(name: [.short, .long], parsing: .unconditional, help: "Random seed for sampling.")
  var seed: UInt64 = 0

  @Option(
    name: .customLong("num-return-sequences"), parsing: .unconditional,
    help: "Number of answers, with seeds from --seed on; the prompt is prefilled once.")
  var answerCount = 1

  @Option(
    name: .customLong("repeat-penalty"), parsing: .unconditional,
    help: "Divisor of positive and factor of negative logits of the last tokens; 1 disables.")
  var repeatPenalty = 1.0

  @Option(
    name: .customLong("repeat-last-n"), parsing: .unconditional,
    help: "Number of last tokens of prompt and answer for --repeat-penalty; -1 for all.")
  var repeatLastN = 64

  @Option(
    name: .customLong("presence-penalty"), parsing: .unconditional,
    help: "Subtracted from the logits of tokens in the answer.")
  var presencePenalty = 0.0

  @Option(
    name: .customLong("frequency-penalty"), parsing: .unconditional,
    help: "Subtracted from the logits of tokens once for each occurrence in the answer.")
  var frequencyPenalty = 0.0

  @Option(
    name: .customLong("logit-bias"),
    help: ArgumentHelp("Number added to the logit of a token; repeat for several.", valueName: "id:value"))
  var logitBias: [LogitBias] = []

  @Option(
    name: .customLong("json-schema"),
    help: ArgumentHelp("File with a JSON schema that the answer validates against.", valueName: "file"))
  var jsonSchema: String?

  @Option(
    help: ArgumentHelp("The answer is one of these texts, separated by commas.", valueName: "a,b,c"))
  var choices: String?

  @Option(help: "The answer is a text that this regular expression matches as a whole.")
  var regex: String?

  @Option(help: "Log-probabilities of the answer's tokens and of the k most likely ones, in JSON output.")
  var logprobs: Int?

  func validate() throws {
    guard maxNewTokens >= 0 else { throw ValidationError("--n-predict must not be negative, found \(maxNewTokens)") }
    guard contextLength.map({ $0 > 0 }) ?? true else { throw ValidationError("--ctx-size must be positive") }
    guard temperature >= 0, temperature.isFinite else {
      throw ValidationError("--temp must be 0 or above, found \(temperature)")
    }
    guard topK >= 0 else { throw ValidationError("--top-k must not be negative, found \(topK)") }
    guard topP > 0, topP <= 1 else { throw ValidationError("--top-p must be above 0 and at most 1, found \(topP)") }
    guard (0...1).contains(minP) else { throw ValidationError("--min-p must be from 0 to 1, found \(minP)") }
    guard repeatPenalty > 0, repeatPenalty.isFinite else {
      throw ValidationError("--repeat-penalty must be above 0, found \(repeatPenalty)")
    }
    guard repeatLastN >= -1 else { throw ValidationError("--repeat-last-n must be -1 or above, found \(repeatLastN)") }
    for (option, value) in [("--presence-penalty", presencePenalty), ("--frequency-penalty", frequencyPenalty)] {
      guard value.isFinite else { throw ValidationError("\(option) must be a number, found \(value)") }
    }
    guard !stop.contains("") else { throw ValidationError("--stop is empty; give a text, or leave it out") }
    guard [jsonSchema, choices, regex].count(where: { $0 != nil }) <= 1 else {
      throw ValidationError("--json-schema, --choices and --regex exclude each other; give one of them")
    }
    guard stop.isEmpty || (jsonSchema ?? choices ?? regex) == nil else {
      throw ValidationError("--stop could cut an answer that must have a form; leave out one of the two")
    }
    let (answers, logprobLimit) = (1...GenerationOptions.maxAnswerCount, 0...GenerationOptions.maxLogprobs)
    guard answers.contains(answerCount) else {
      throw ValidationError("--num-return-sequences must be from 1 to \(answers.upperBound), found \(answerCount)")
    }
    guard logprobs.map(logprobLimit.contains) ?? true else {
      throw ValidationError("--logprobs must be from 0 to \(logprobLimit.upperBound), found \(logprobs ?? 0)")
    }
  }

  /// - Throws: `FileArgumentError` for a schema that cannot be read.
  func options() throws -> GenerationOptions {
    var options = GenerationOptions()
    options.maxTokens = maxNewTokens
    options.ignoresEOS = ignoresEOS
    options.stop = stop
    options.contextLength = contextLength
    options.temperature = temperature
    (options.topK, options.topP, options.minP) = (topK, topP, minP)
    (options.seed, options.answerCount) = (seed, answerCount)
    (options.repeatPenalty, options.repeatLastN) = (repeatPenalty, repeatLastN)
    (options.presencePenalty, options.frequencyPenalty) = (presencePenalty, frequencyPenalty)
    options.logitBias = Dictionary(logitBias.map { ($0.token, $0.value) }) { $1 }
    options.logprobs = logprobs
    options.constraint = try constraint()
    return options
  }

  private func constraint() throws -> OutputConstraint? {
    if let jsonSchema {
      let text = try TextFile.read(jsonSchema)
      do throws(JSONParser.ParseError) { _ = try JSONParser.parse(Array(text.utf8)) } catch {
        throw FileArgumentError("\(jsonSchema): not JSON: expected \(error.expected) at byte \(error.offset)")
      }
      return .jsonSchema(text)
    }
    if let choices {
      return .choices(choices.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) })
    }
    return regex.map { .regex($0) }
  }
}

/// A token id and the number that is added to its logit, such as `13:-5`.
struct LogitBias: ExpressibleByArgument {
  let token: Int
  let value: Double

  init?(argument: String) {
    let parts = argument.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count == 2, let token = Int(parts[0]), token >= 0, let value = Double(parts[1]), !value.isNaN else {
      return nil
    }
    (self.token, self.value) = (token, value)
  }
}
