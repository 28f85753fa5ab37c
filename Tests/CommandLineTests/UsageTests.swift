import Foundation
import TestSupport
import Testing

@Suite struct UsageTests {
  @Test(arguments: [
    ([], "no question given"), (["--nonsense"], "nonsense"), (["-p"], "Missing value"), (["answer", "x"], "'x'"),
    (["-p", "a", "-f", "b"], "give one"), (["--image", "a.jpg"], "no question given"),
    (["-p", "a", "--image", ""], "--image is empty"), (["-p", "a", "--image", ","], "--image is empty"),
    (["tokenize"], "--file or --prompt"),
    (["-p", "a", "-t", "0"], "--threads"), (["-p", "a", "-t", "1025"], "--threads"),
    (["-p", "a", "-t", "many"], "many"),
    (["-p", "a", "-n", "-1"], "-n"), (["-p", "a", "--n-predict=-1"], "--n-predict"),
    (["-p", "a", "-c", "0"], "--ctx-size"),
    (["-p", "a", "-n", "99999999999999999999"], "99999999999999999999"), (["-p", "a", "--temp", "nan"], "--temp"),
    (["-p", "a", "--temp", "inf"], "--temp"), (["-p", "a", "--temp=-1"], "--temp"),
    (["-p", "a", "--top-p", "0"], "--top-p"),
    (["-p", "a", "--top-p", "1.1"], "--top-p"), (["-p", "a", "--top-p", "nan"], "--top-p"),
    (["-p", "a", "--top-k=-1"], "--top-k"), (["-p", "a", "-s=-1"], "-1"),
    (["-p", "a", "--policy", "best"], "pyramiddrop"),
    (["-p", "a", "--format", "xml"], "json"), (["-p", "a", "--chat-template", "none_such"], "vicuna_v1"),
    (["-p", "a", "--precision", "f8"], "f8"), (["-p", "a", "--clip-model"], "Missing value"),
    (["-p", "a", "--positions", "new"], "compact"),
    (["-p", "a", "--input", "b"], "--input supplies"), (["-p", "a", "--output", "b"], "require --input"),
    (["--raw", "-p", "a", "--system", "b"], "--system"), (["-i", "--raw"], "--interactive reads turns"),
    (["-i", "--chat", "a"], "--interactive reads turns"), (["-i", "-f", "-"], "--interactive reads turns"),
    (["-i", "--trace", "a"], "--trace records one"), (["-i", "--input", "a"], "--input supplies"),
    (["-p", "a", "--feature-cache-size", "1GiB"], "requires --feature-cache"),
    (["-p", "a", "--feature-cache", "b", "--feature-cache-size", "much"], "--feature-cache-size"),
    (["-p", "a", "--feature-cache", ""], "--feature-cache is empty"),
    (["-p", "a", "--prompt-cache-size", "1GiB"], "requires --prompt-cache"),
    (["-p", "a", "--prompt-cache", ""], "--prompt-cache is empty"),
    (["-p", "a", "--kept-map", "a.gif"], "--kept-map writes .png"), (["-p", "a", "--kept-map-scores"], "--kept-map"),
    (["-i", "--kept-map", "a.png"], "--kept-map draws one"), (["--input", "a", "--kept-map", "a.png"], "draws one"),
    (["-p", "a", "--image-folder", "a", "--kept-map", "a.png"], "draws one"),
    (["-p", "a", "--no\u{1B}[31m\nerror: such"], #"\u{1B}"#),
  ])
  func `refuses an invalid command line`(arguments: [String], words: String) throws {
    try ProgramRun(arguments).expectFailure(2, words)
  }

  @Test(arguments: [
    (["--layer-list", "8,16", "--image-token-ratio-list", "0.5"], "2 entries"),
    (["--layer-list", "8"], "belong together"), (["--image-token-ratio-list", "0.5"], "belong together"),
    (["--layer-list", "8,16", "--image-token-ratio-list", "0.25,0.5"], "must not rise"),
    (["--layer-list", "16,8", "--image-token-ratio-list", "0.5,0.25"], "must be strictly increasing"),
    (["--layer-list", "0", "--image-token-ratio-list", "0.5"], "layer 0"),
    (["--layer-list", "32", "--image-token-ratio-list", "0.5"], "layer 32"),
    (["--layer-list", "8", "--image-token-ratio-list", "1.5"], "1.5"),
    (["--layer-list", "8", "--image-token-ratio-list", "nan"], "nan"),
    (["--layer-list", "8,", "--image-token-ratio-list", "1"], "8,"),
    (["--layer-list", "8", "--image-token-ratio-list", "1", "--stages", "2"], "one or the other"),
    (["--lambda", "2"], "2.0"), (["--lambda", "nan"], "nan"), (["--stages", "0"], "0 stages"),
    (["--stages", "33"], "33 stages"),
    (["--policy", "fastv", "--fastv-k", "0"], "layer 0"), (["--policy", "fastv", "--fastv-k", "32"], "layer 32"),
    (["--policy", "fastv", "--fastv-r", "2"], "2.0"), (["--policy", "fastv", "--lambda", "0.5"], "no stages"),
    (["--policy", "none", "--stages", "2"], "no stages"), (["--fastv-k", "2"], "--policy fastv"),
    (["--rank", "best"], "value-weighted"), (["--policy", "none", "--rank", "attention"], "--rank requires"),
    (["--policy", "uniform", "--rank", "key-norm"], "--rank requires"),
    (["--policy", "none", "--mask-padding"], "--mask-padding"),
    (["--preselect-packing", "patches"], "requires --preselect"),
    (["--preselect", "scope", "--preselect-tokens", "8", "--preselect-packing", "rows"], "'sequence' or 'paper'"),
    (
      ["--preselect", "scope", "--preselect-tokens", "8", "--preselect-packing", "sequence"],
      "requires --preselect divprune"
    ),
    (
      ["--preselect", "local-global", "--preselect-tokens", "8", "--preselect-packing", "paper"],
      "VScan removes padding"
    ),
    (["--recipe", "tops-64", "--preselect-packing", "paper"], "TOPS has published no code"),
    (["--recipe", "pdrop", "--preselect-packing", "paper"], "--recipe pdrop has none"),
    (["--preselect", "best", "--preselect-tokens", "8"], "divprune"), (["--preselect", "scope"], "or a target"),
    (["--preselect-tokens", "8"], "require --preselect"), (["--preselect-share", "25%"], "require --preselect"),
    (["--preselect", "none", "--preselect-tokens", "8"], "require --preselect"),
    (["--preselect", "scope", "--preselect-tokens", "8", "--preselect-share", "25%"], "give one"),
    (["--preselect", "scope", "--preselect-tokens=-1"], "--preselect-tokens"),
    (["--preselect", "scope", "--preselect-share", "125%"], "125%"),
    (["--preselect", "scope", "--preselect-tokens", "0"], "1 or more, found 0"),
    (["--preselect", "scope", "--preselect-share", "0"], "above 0%"),
    (["--temp", "-1"], "--temp must be 0 or above, found -1"), (["-n", "-1"], "must not be negative, found -1"),
    (["--repeat-last-n", "-2"], "-1 or above, found -2"), (["--top-k", "-1"], "not be negative, found -1"),
    (["--preselect", "scope", "--preselect-tokens", "8", "--preselect-budget", "tile"], "image"),
    (["--policy", "none", "--select", "coverage"], "--select requires"), (["--select", "best"], "coverage"),
    (["--recipe", "scope-63"], "scope-64"), (["--recipe", "all"], "expected one recipe"),
    (["--recipe", "scope-64", "--lambda", "0.5"], "leave out the other options"),
    (["--target-tokens", "9", "--target-flops", "45%"], "give one"), (["--target-flops", "145%"], "145%"),
    (["--target-kv", "no"], "no"), (["--target-ttft=-1s"], "--target-ttft"),
    (["--target-tokens", "192", "--lambda", "0.5"], "leave out --lambda"),
    (["--policy", "fastv", "--target-tokens", "192", "--fastv-r", "0.5"], "--fastv-r"),
    (["--policy", "none", "--target-tokens", "192"], "leave out the target"),
  ])
  func `refuses an invalid schedule`(arguments: [String], words: String) throws {
    try ProgramRun(["-p", "a"] + arguments).expectFailure(2, words)
  }

  @Test func `suggests layers for a target that the given layers cannot meet`() throws {
    let image = Goldens.path("../../Models/samples/bike.png")
    for words in ["144", "layer 8, 16 and 24", "--layer-list 4,13,22 can do it"] {
      try ProgramRun(["-p", "a", "--image", image, "--target-tokens", "128"]).expectFailure(2, words)
    }
  }

  @Test(arguments: [["--version"], ["--help"], ["tokenize", "--help"], ["check", "--help"]])
  func `prints version and help`(arguments: [String]) throws {
    let run = try ProgramRun(arguments)
    #expect(run.status == 0 && !run.output.isEmpty && run.errors.isEmpty)
  }

  @Test(arguments: [("pdrop-run", "answer"), ("pdrop-bench", "pipeline")])
  func `lists common options of the default subcommand in the help of the program`(
    program: String, subcommand: String
  ) throws {
    /// The words of a text that begin with a dash.
    func options(_ text: some StringProtocol) -> Set<Substring> {
      Set(Substring(text).split { " ,\n".contains($0) }.filter { $0.hasPrefix("-") })
    }
    let help = try ProgramRun(["--help"], program: program).output
    let overview = try #require(help.firstRange(of: "USAGE:").map { help[..<$0.lowerBound] })
    let listed = options(overview)
    #expect(listed.isSuperset(of: ["-m", "--model", "-p", "--policy", "--threads"]), "\(help)")
    let known = options(try ProgramRun([subcommand, "--help"], program: program).output)
    #expect(listed.subtracting(known).isEmpty)
  }

  @Test(
    .enabled(if: FullDevice.exists, "no /dev/full"),
    arguments: [
      ["--version"], ["tokenize", "-p", "a"], ["-p", "a", "-n", "1"], ["-p", "a", "-n", "1", "--format", "json"],
    ])
  func `reports a full disk as unwritable output`(arguments: [String]) throws {
    let full: FileHandle = try #require(FileHandle(forWritingAtPath: FullDevice.path))
    try ProgramRun(arguments, output: full).expectFailure(3, "standard output")
  }

  @Test func `ends silently if its output pipe is closed`() throws {
    let pipe = Pipe()
    try pipe.fileHandleForReading.close()
    let run = try ProgramRun(["tokenize", "-p", "a"], output: pipe.fileHandleForWriting)
    #expect(run.wasKilled && run.status == SIGPIPE && run.errors.isEmpty, "\(run)")
  }
}
