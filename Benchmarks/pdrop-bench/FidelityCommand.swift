import ArgumentParser
import BenchSupport
import CommandLineOptions
import Foundation
import PDrop
import TokenDropping

/// `pdrop-bench fidelity`: how near answers stay to those of another arithmetic or policy, and how many are right.
struct FidelityCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "fidelity",
    abstract: "Compares answers by arithmetic and policy with those of the first ones named, on questions of your own.")

  @OptionGroup(title: "Model") var modelOptions: ModelSourceOptions

  @Option(help: "Policies to compare; the first, in the first precision, is what others are compared with.")
  var policy = NameList<PolicyName>([.none, .fastv, .pyramiddrop])

  @OptionGroup(title: "Dropping") var policyOptions: PolicyOptions

  @Option(help: "Questions, one JSON object a line: question_id, image, text and, where it is known, answer.")
  var input: String

  @Option(name: .customLong("image-folder"), help: "Where the pictures are. (default: beside the questions)")
  var imageFolder: String?

  @Option(help: "Most questions to ask. (default: all)")
  var limit: Int?

  @Option(name: [.customShort("n"), .customLong("n-gen")], help: "Most tokens of an answer.")
  var generatedTokens = 32

  @Option(name: [.short, .long], help: "Threads to compute on. (default: all cores)")
  var threads: Int?

  @Option(name: [.short, .long], help: "Form of the table.")
  var output = TableFormat.md

  func validate() throws {
    guard limit.map({ $0 >= 1 }) ?? true else { throw ValidationError("--limit must be at least 1") }
    guard generatedTokens >= 1 else { throw ValidationError("--n-gen must be at least 1, found \(generatedTokens)") }
    guard threads.map({ (1...1024).contains($0) }) ?? true else {
      throw ValidationError("--threads must be 1 to 1024, found \(threads ?? 0)")
    }
    guard modelOptions.synthetic.names.isEmpty, modelOptions.model.count <= 1 else {
      throw ValidationError("fidelity compares the answers of one real model; give one --model")
    }
  }

  func run() throws {
    let threadCount = threads ?? ProcessInfo.processInfo.activeProcessorCount
    let folder = imageFolder ?? URL(filePath: input).deletingLastPathComponent().path
    let questions = try LabelledQuestion.read(input).prefix(limit ?? .max)
    let policies = try policy.names.map { try policyOptions.forPolicy($0).policy($0, seed: 0) }
    var comparison = Fidelity(generatedTokens: generatedTokens, threads: threadCount)
    for source in try modelOptions.sources() {
      for precision in modelOptions.precision.names {
        let model = try modelOptions.load(source, precision, threads: threadCount)
        for policy in policies {
          comparison.subjects.append(
            Fidelity.Subject(model: model, policy: model.timed(policy, threads: threadCount)))
        }
      }
    }
    for (number, question) in questions.enumerated() {
      try comparison.ask(question, pictures: folder)
      if (number + 1).isMultiple(of: 50) { Log.write("\(number + 1) of \(questions.count) questions") }
    }
    let records = comparison.records(threads: threadCount)
    try Output().write(output.rendered(records, name: "pdrop_fidelity"))
  }
}
