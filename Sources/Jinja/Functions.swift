import Foundation

/// The functions that every template can call.
package enum GlobalFunction: String, Sendable {
  case range, dict, namespace
  case raiseException = "raise_exception"
  case strftimeNow = "strftime_now"
}

extension Renderer {
  func call(_ function: GlobalFunction, _ arguments: Arguments) throws(JinjaError) -> JinjaValue {
    switch function {
    case .range: return .transient(.range(try range(arguments)))
    case .dict: return try checked(.dict(try dict(arguments)))
    case .namespace:
      let dict = try dict(arguments)
      try meter.charge(4 + dict.count)
      for entry in dict.entries {
        if let name = entry.key.text, name.utf8.first == UInt8(ascii: "_") {
          throw meter.unsupported(.attribute, name)
        }
      }
      namespaces.append(dict)
      return .transient(.namespace(namespaces.count - 1))
    case .raiseException:
      let message = try arguments.bind(["message"], required: 1, to: function.rawValue, meter)[0] ?? JinjaValue.none
      throw .raised(try PythonText.string(of: message, meter))
    case .strftimeNow:
      let format = try arguments.bind(["format"], required: 1, to: function.rawValue, meter)[0] ?? JinjaValue.none
      let text = try format.requireText(of: function.rawValue, meter)
      try meter.charge(text: 16 * text.utf8.count)
      return .string(try (time ?? .now).text(text, meter))
    }
  }

  private func range(_ arguments: Arguments) throws(JinjaError) -> IntegerRange {
    guard arguments.named.isEmpty, (1...3).contains(arguments.positional.count) else {
      throw meter.evaluation("'range' expects one to three numbers")
    }
    var bounds: [Int] = []
    for value in arguments.positional { bounds.append(try value.requireInteger(of: "range", meter)) }
    let start = bounds.count == 1 ? 0 : bounds[0]
    let stop = bounds.count == 1 ? bounds[0] : bounds[1]
    let step = bounds.count == 3 ? bounds[2] : 1
    if step == 0 { throw meter.evaluation("'range' with a step of 0") }
    let (distance, overflow) =
      step > 0 ? stop.subtractingReportingOverflow(start) : start.subtractingReportingOverflow(stop)
    let isEmpty = step > 0 ? stop <= start : start <= stop
    let count = isEmpty ? 0 : overflow ? UInt.max : (UInt(distance) - 1) / step.magnitude + 1
    guard count <= JinjaLimits.rangeCount else {
      throw .limit("a range of more than \(JinjaLimits.rangeCount) numbers", line: meter.line)
    }
    return IntegerRange(start: start, stop: stop, step: step, count: Int(count))
  }

  private func dict(_ arguments: Arguments) throws(JinjaError) -> JinjaDict {
    var result = JinjaDict()
    guard arguments.positional.count <= 1 else { throw meter.evaluation("'dict' expects one value at most") }
    if let source = arguments.positional.first {
      if case .dict(let dict) = source {
        result = dict
      } else if case .transient(.undefined(let reason)) = source {
        throw .undefined(reason, line: meter.line)
      } else {
        for pair in try elements(of: source) {
          let pair = try elements(of: pair)
          guard pair.count == 2 else { throw meter.evaluation("'dict' expects pairs") }
          result.set(try key(pair[0]), pair[0], pair[1])
        }
      }
    }
    for argument in arguments.named { result.set(.string(argument.name), .string(argument.name), argument.value) }
    return result
  }
}

/// A time of the local calendar, for `strftime_now`.
package struct JinjaTime: Sendable, Equatable {
  package var year: Int
  package var month: Int
  package var day: Int
  package var hour: Int
  package var minute: Int
  package var second: Int
  /// 0 for Sunday.
  package var weekday: Int

  package init(year: Int, month: Int, day: Int, hour: Int = 0, minute: Int = 0, second: Int = 0, weekday: Int) {
    self.year = year
    self.month = month
    self.day = day
    self.hour = hour
    self.minute = minute
    self.second = second
    self.weekday = weekday
  }

  package static var now: JinjaTime {
    let parts = Calendar(identifier: .gregorian).dateComponents(
      [.year, .month, .day, .hour, .minute, .second, .weekday], from: Date())
    return JinjaTime(
      year: parts.year ?? 1970, month: parts.month ?? 1, day: parts.day ?? 1, hour: parts.hour ?? 0,
      minute: parts.minute ?? 0, second: parts.second ?? 0, weekday: (parts.weekday ?? 1) - 1)
  }

  private static let months = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
  ]
  private static let weekdays = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]

  /// The time in a format of `strftime`, with the English names of the C locale.
  func text(_ format: String, _ meter: Meter) throws(JinjaError) -> String {
    var result = ""
    var scalars = format.unicodeScalars.makeIterator()
    while let scalar = scalars.next() {
      guard scalar == "%" else {
        result.unicodeScalars.append(scalar)
        continue
      }
      var directive = scalars.next()
      let isUnpadded = directive == "-"
      if isUnpadded { directive = scalars.next() }
      func digits(_ value: Int, _ width: Int = 2, pad: String = "0") -> String {
        let text = String(value)
        return isUnpadded ? text : String(repeating: pad, count: max(0, width - text.count)) + text
      }
      switch directive {
      case "Y": result += String(year)
      case "y": result += digits(year % 100)
      case "m": result += digits(month)
      case "d": result += digits(day)
      case "e": result += digits(day, pad: " ")
      case "H": result += digits(hour)
      case "I": result += digits((hour + 11) % 12 + 1)
      case "M": result += digits(minute)
      case "S": result += digits(second)
      case "p": result += hour < 12 ? "AM" : "PM"
      case "B": result += Self.months[(month + 11) % 12]
      case "b", "h": result += Self.months[(month + 11) % 12].prefix(3)
      case "A": result += Self.weekdays[weekday % 7]
      case "a": result += Self.weekdays[weekday % 7].prefix(3)
      case "F": result += "\(year)-\(digits(month))-\(digits(day))"
      case "T": result += "\(digits(hour)):\(digits(minute)):\(digits(second))"
      case "n": result += "\n"
      case "%": result += "%"
      default:
        throw meter.unsupported(.operation, "%\(directive.map { String(Character($0)) } ?? "") of strftime_now")
      }
    }
    return result
  }
}
