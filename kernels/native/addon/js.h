// Values of JavaScript: what N-API's calls take and give, with failures as exceptions.
#pragma once

#define NAPI_VERSION 8
#include <node_api.h>

#include <exception>
#include <initializer_list>
#include <string>
#include <vector>

namespace cellbatch {

/** Thrown once an exception is pending in JavaScript. */
struct Pending {};

inline void check(napi_env env, napi_status status) {
  if (status == napi_ok) return;
  bool pending = false;
  napi_is_exception_pending(env, &pending);
  if (!pending) napi_throw_error(env, "ERR_NATIVE", "the native addon was called with what it does not expect");
  throw Pending{};
}

struct Values {
  napi_env env;

  napi_value property(napi_value object, const char* name) const {
    napi_value value;
    check(env, napi_get_named_property(env, object, name, &value));
    return value;
  }

  int32_t integer(napi_value value) const {
    int32_t number;
    check(env, napi_get_value_int32(env, value, &number));
    return number;
  }

  int32_t integer(napi_value object, const char* name) const { return integer(property(object, name)); }

  bool boolean(napi_value value) const {
    bool truth;
    check(env, napi_get_value_bool(env, value, &truth));
    return truth;
  }

  bool flag(napi_value object, const char* name) const { return boolean(property(object, name)); }

  std::string text(napi_value value) const {
    size_t length = 0;
    check(env, napi_get_value_string_utf8(env, value, nullptr, 0, &length));
    std::string text(length, '\0');
    check(env, napi_get_value_string_utf8(env, value, text.data(), length + 1, &length));
    return text;
  }

  template <typename T>
  T* array(napi_value value, napi_typedarray_type expected, size_t least) const {
    napi_typedarray_type type;
    size_t length;
    void* data;
    check(env, napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr));
    if (type != expected || length < least) {
      const std::string message = "an array of " + std::to_string(length) + " values came where at least " +
                                  std::to_string(least) + " of another type may be read";
      napi_throw_range_error(env, "ERR_NATIVE", message.c_str());
      throw Pending{};
    }
    return static_cast<T*>(data);
  }

  std::vector<float> floats(napi_value object, const char* name, size_t expected) const {
    const napi_value value = property(object, name);
    const float* data = array<float>(value, napi_float32_array, expected);
    return std::vector<float>(data, data + expected);
  }

  /** All values of an array, however many. */
  template <typename T>
  std::vector<T> all(napi_value object, const char* name, napi_typedarray_type type) const {
    const napi_value value = property(object, name);
    const T* data = array<T>(value, type, 0);
    size_t length;
    check(env, napi_get_typedarray_info(env, value, nullptr, &length, nullptr, nullptr, nullptr));
    return std::vector<T>(data, data + length);
  }

  void set(napi_value object, const char* name, napi_value value) const {
    check(env, napi_set_named_property(env, object, name, value));
  }

  void set(napi_value object, const char* name, const std::string& text) const {
    napi_value value;
    check(env, napi_create_string_utf8(env, text.data(), text.size(), &value));
    set(object, name, value);
  }

  void set(napi_value object, const char* name, double number) const {
    napi_value value;
    check(env, napi_create_double(env, number, &value));
    set(object, name, value);
  }

  napi_value object() const {
    napi_value value;
    check(env, napi_create_object(env, &value));
    return value;
  }
};

struct Function {
  const char* name;
  napi_callback call;
};

inline void addFunctions(const Values& js, napi_value exports, std::initializer_list<Function> functions) {
  for (const auto& [name, call] : functions) {
    napi_value function;
    check(js.env, napi_create_function(js.env, name, NAPI_AUTO_LENGTH, call, nullptr, &function));
    js.set(exports, name, function);
  }
}

/** Calls `body` with the arguments, and turns what it throws into an exception of JavaScript. */
template <size_t Count, typename Body>
napi_value guarded(napi_env env, napi_callback_info info, Body body) {
  try {
    napi_value arguments[Count > 0 ? Count : 1];
    size_t count = Count;
    check(env, napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr));
    return body(Values{env}, arguments);
  } catch (const Pending&) {
  } catch (const std::exception& error) {
    napi_throw_error(env, "ERR_NATIVE", error.what());
  }
  return nullptr;
}

}  // namespace cellbatch
