/// The arguments of a call.
struct Arguments {
  var positional: [JinjaValue] = []
  var named: [(name: String, value: JinjaValue)] = []

  /// The values of the parameters, nil where the call gives none.
  ///
  /// - Parameters:
  ///   - parameters: The names, in order.
  ///   - required: How many of them the call must give.
  ///   - callee: The name of what is called, for messages.
  func bind(
    _ parameters: [String], required: Int = 0, to callee: String, _ meter: Meter
  ) throws(JinjaError) -> [JinjaValue?] {
    guard positional.count <= parameters.count else {
      throw meter.evaluation("'\(callee)' takes at most \(parameters.count) arguments, found \(positional.count)")
    }
    var values: [JinjaValue?] = positional
    values += Array(repeating: nil, count: parameters.count - positional.count)
    for argument in named {
      guard let place = parameters.firstIndex(of: argument.name), values[place] == nil else {
        throw meter.evaluation("'\(callee)' takes no argument \(JinjaError.quoted(argument.name))")
      }
      values[place] = argument.value
    }
    for place in 0..<required where values[place] == nil {
      throw meter.evaluation("'\(callee)' needs an argument \(JinjaError.quoted(parameters[place]))")
    }
    return values
  }

  /// The only positional argument.
  func single(of callee: String, _ meter: Meter) throws(JinjaError) -> JinjaValue {
    try bind([""], required: 1, to: callee, meter)[0] ?? JinjaValue.none
  }

  /// Refuses all arguments.
  func requireNone(of callee: String, _ meter: Meter) throws(JinjaError) {
    _ = try bind([], to: callee, meter)
  }
}

extension JinjaValue {
  /// The value as an `int` argument.
  func requireInteger(of callee: String, _ meter: Meter) throws(JinjaError) -> Int {
    guard let integer else { throw meter.evaluation("'\(callee)' expects an integer, found \(typeName)") }
    return integer
  }

  /// The value as a `str` argument.
  func requireText(of callee: String, _ meter: Meter) throws(JinjaError) -> String {
    guard let text else { throw meter.evaluation("'\(callee)' expects a string, found \(typeName)") }
    return text
  }
}
