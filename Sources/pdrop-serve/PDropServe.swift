import ArgumentParser
import BatchInference
import CommandLineSupport
import Foundation
import PDrop
import Serving
import Storage
import TokenDropping

/// `pdrop-serve`: answers questions about images over HTTP, in OpenAI's API.
@main
struct PDropServe: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pdrop-serve",
    abstract: "Serves LLaVA on a CPU over HTTP: OpenAI's chat completions with images, and a page at /.",
    discussion: """
      The most common options:

        -m, --model          model directory or GGUF file, by default the bundled tiny-textvqa
        --host, --port       address, by default 127.0.0.1 and 8080
        --api-key            key that clients must send
        -b, --batch-size     sequences at once, by default up to 16
        --media-path         folder of file:// images
        --policy             none, pyramiddrop (default), fastv, random or uniform
        --precision          compute precision: auto, f32, bf16, int8, int4
      """,
    version: ServerVersion.number)

  @OptionGroup(title: "Server") var server: ServerOptions
  @OptionGroup(title: "Model") var modelOptions: ModelOptions
  @OptionGroup(title: "Engine") var engine: EngineArguments

  @Option(
    name: .customLong("prefill-share"),
    help: """
      Fraction of the work for a prompt while answers are generated, above 0 to 1: with 0.5 they keep half of their \
      token rate, and a quarter of that while more requests wait and the batch has room.
      """)
  var prefillShare = 0.5

  @Option(
    name: [.customShort("n"), .customLong("n-predict")], help: "Maximum number of new tokens, without max_tokens.")
  var maxNewTokens = 1024

  @Option(
    name: [.customShort("c"), .customLong("ctx-size")],
    help: "Context length in tokens, images included. (default: the maximum of the model)")
  var contextLength: Int?

  @Option(help: "System prompt instead of the default of the model; an empty string for none.")
  var system: String?

  @Option(help: "Token-dropping policy: none, pyramiddrop, fastv, random or uniform.")
  var policy = PolicyName.pyramiddrop

  @OptionGroup(title: "Dropping") var policyOptions: PolicyOptions
  @OptionGroup(title: "Caches") var caches: CacheArguments

  func validate() throws {
    _ = try policyOptions.policy(policy, seed: 0)
    guard prefillShare > 0, prefillShare <= 1 else {
      throw ValidationError("--prefill-share must be above 0 and at most 1, found \(prefillShare)")
    }
    try checkRange("--n-predict", maxNewTokens, 1...Int.max)
    guard contextLength.map({ $0 > 0 }) ?? true else { throw ValidationError("--ctx-size must be positive") }
  }

  static func main() { runProgram() }

  func run() throws {
    // A client that leaves is no reason to end.
    _ = signal(SIGPIPE, SIG_IGN)
    FileLimit.raise()
    let state = ServerState(try server.settings())
    let http = HTTPServer(state)
    try http.start()
    let loaded = try load(state)
    state.setLoaded(loaded)
    Log.write("ready: \(loaded.service.model.name), \(modelOptions.threadDescription)")
    defer {
      loaded.service.stop()
      loaded.service.waitUntilEnded()
    }
    try http.wait()
  }

  /// Loads the model and starts the engine; meanwhile requests are told to wait.
  private func load(_ state: ServerState) throws -> ServerState.Loaded {
    let policy = try policyOptions.policy(policy, seed: 0)
    let model = try modelOptions.load(featureCache: caches.featureCache, promptCache: caches.promptCache)
    _ = try policy.stages(layerCount: model.layerCount, visualTokenCount: 1)
    if let system {
      _ = try model.rendered(.messages([ChatMessage(question: "Q", imageCount: 0)]), systemPrompt: system)
    }
    var base = Request(prompt: .messages([]), policy: model.timed(policy, threads: modelOptions.threadCount))
    base.options.maxTokens = maxNewTokens
    base.options.contextLength = contextLength
    base.systemPrompt = system
    var options = InferenceService.Options(engine: engine.engine(threads: modelOptions.threadCount))
    options.engine.prefillShare = prefillShare
    options.engine.prefixLimit = 64
    options.queueLimit = server.queue
    let service = try InferenceService(model, options)
    let routes = ModelRoutes(
      service, like: base, state.settings.images, path: try modelOptions.directory(),
      created: Int(Date().timeIntervalSince1970))
    return ServerState.Loaded(service: service, base: base, routes: routes)
  }
}
