"""Conversations that every template is rendered with; what `apply_chat_template` takes."""

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city, today or on one of the next days",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Name of the city, e.g. \"Zürich\" or <anything> & more"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
                "days": {"type": "integer", "minimum": 0, "maximum": 14},
                "limit": {"type": ["number", "null"], "exclusiveMinimum": -0.5, "multipleOf": 0.1},
            },
            "required": ["city"],
        },
    },
}
ORDER = {
    "type": "function",
    "function": {
        "name": "place_order",
        "description": None,
        "parameters": {
            "$defs": {"line": {"type": "object", "properties": {"sku": {"type": "string"}, "n": {"type": "integer"}}}},
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}, "minItems": 1},
                "address": {
                    "type": "object",
                    "description": "Where it goes.\nTwo lines.",
                    "properties": {"street": {"type": "string"}, "zip": {"type": "string", "pattern": "^[0-9]{5}$"}},
                    "required": ["street", "zip"],
                },
                "when": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
                "tiny": {"type": "number", "default": 1e-07},
                "huge": {"type": "number", "default": 1e22},
            },
            "required": ["lines", "address"],
        },
        "strict": True,
    },
}
NOTHING = {"type": "function", "function": {"name": "ping", "description": "Answers \\ 'pong'", "parameters": None}}
EMPTY = {
    "type": "function",
    "function": {"name": "now", "description": "", "parameters": {"type": "object", "properties": {}}},
}
TOOLS = [WEATHER, ORDER]


def user(content, **fields):
    return {"role": "user", "content": content, **fields}


def system(content):
    return {"role": "system", "content": content}


def assistant(content, **fields):
    return {"role": "assistant", "content": content, **fields}


def call(name, arguments, number=1):
    return {"id": f"call0000{number}", "function": {"arguments": arguments, "name": name}, "type": "function"}


def result(content, number=1, **fields):
    return {"role": "tool", "content": content, "tool_call_id": f"call0000{number}", **fields}


def text(*texts):
    return [{"type": "text", "text": each} for each in texts]


ASKED = user("What is the weather in Zürich?")
CALLED = assistant("", tool_calls=[call("get_weather", {"city": "Zürich", "days": 2})])
TURNS = [user("Hello!"), assistant("Hi. What can I do for you?"), user("Tell me a joke.")]
ORDERED = call(
    "place_order",
    {
        "lines": [{"sku": "A\"1", "n": 2}, {"sku": "<b>&'", "n": -1}],
        "address": {"street": "Weg 1\n\tHof", "zip": "01234"},
        "when": None,
        "rate": 0.1,
        "big": 12345678901234567,
        "gift": True,
        "notes": [],
        "extra": {},
        "emoji": "🚚 ключ",
    },
    2,
)

CONVERSATIONS = {
    "user": {"messages": [user("Hello!")]},
    "system and user": {"messages": [system("You are terse."), user("Hello!")]},
    "several turns": {"messages": [system("You are terse."), *TURNS]},
    "several turns, none from the system": {"messages": TURNS},
    "no generation prompt": {"messages": TURNS, "add_generation_prompt": False},
    "ends with the assistant": {"messages": TURNS[:2]},
    "ends with the assistant, no generation prompt": {"messages": TURNS[:2], "add_generation_prompt": False},
    "continued": {
        "messages": [*TURNS, assistant("Why did the chicken")],
        "add_generation_prompt": False,
        "continue_final_message": True,
    },
    "continued, space at the end": {
        "messages": [*TURNS, assistant("Why did \n")],
        "add_generation_prompt": False,
        "continue_final_message": True,
    },
    "continued, but nothing to continue": {
        "messages": [user("Hello!"), {"role": "assistant"}],
        "add_generation_prompt": False,
        "continue_final_message": True,
    },
    "continued and prompted": {"messages": TURNS, "continue_final_message": True},
    "unicode": {"messages": [system("Größe ✓ \u200b"), user("你好，世界 — ¿qué? 🙂\u0301 \ufeff\u00a0ﬁ")]},
    "odd white space": {"messages": [system("  a\n\n"), user("\n\t b  \r\n c \n"), assistant(" d "), user("\x0b\x1f e \x85")]},
    "empty contents": {"messages": [system(""), user(""), assistant(""), user(" ")]},
    "quotes and markup": {"messages": [user("<b>\"bold\" & 'it'</b> {{ x }} {% if %} \\n \\ `code`")]},
    "special tokens in the text": {"messages": [user("<|im_end|> <s> </s> [INST] <think>hm</think> <eos>"), assistant("<think>a</think>b"), user("c")]},
    "tools": {"messages": [ASKED], "tools": TOOLS},
    "tools and system": {"messages": [system("You are terse."), ASKED], "tools": TOOLS},
    "one tool without parameters": {"messages": [ASKED], "tools": [NOTHING]},
    "one tool with no properties": {"messages": [ASKED], "tools": [EMPTY]},
    "a call": {"messages": [ASKED, CALLED], "tools": TOOLS, "add_generation_prompt": False},
    "a call and its result": {"messages": [ASKED, CALLED, result("{\"degrees\": 21.5}")], "tools": TOOLS},
    "a call, its result and more": {
        "messages": [
            system("You are terse."),
            ASKED,
            CALLED,
            result("21.5"),
            assistant("It is 21.5 degrees."),
            user("And tomorrow?"),
        ],
        "tools": TOOLS,
    },
    "a call with a text": {
        "messages": [ASKED, assistant("I look.", tool_calls=CALLED["tool_calls"]), result("rain"), assistant("Rain.")],
        "tools": TOOLS,
    },
    "a call without content": {
        "messages": [ASKED, assistant(None, tool_calls=CALLED["tool_calls"]), result("rain")],
        "tools": TOOLS,
    },
    "two calls": {
        "messages": [
            ASKED,
            assistant("", tool_calls=[*CALLED["tool_calls"], ORDERED]),
            result("rain", name="get_weather"),
            result("{\"ok\": true}", 2, name="place_order"),
        ],
        "tools": TOOLS,
    },
    "a call with nested arguments": {
        "messages": [user("Order."), assistant("", tool_calls=[ORDERED]), result("done", 2), user("Thanks")],
        "tools": TOOLS,
    },
    "a call without arguments": {
        "messages": [user("Ping."), assistant("", tool_calls=[call("ping", {})]), result("pong")],
        "tools": [NOTHING],
    },
    "arguments as a string": {
        "messages": [ASKED, assistant("", tool_calls=[call("get_weather", "{\"city\": \"Zürich\"}")]), result("rain")],
        "tools": TOOLS,
    },
    "calls, but no tools": {"messages": [ASKED, CALLED, result("rain"), user("Thanks")]},
    "a result without a call": {"messages": [ASKED, result("rain")], "tools": TOOLS},
    "a result of parts": {"messages": [ASKED, CALLED, result(text("rain", "sun"))], "tools": TOOLS},
    "a result that is empty": {"messages": [ASKED, CALLED, result("")], "tools": TOOLS},
    "parts": {"messages": [user(text("One", "two"))]},
    "parts everywhere": {"messages": [system(text("You are terse.")), user(text("One")), assistant(text("Two")), user(text("three", ""))]},
    "no parts": {"messages": [user([])]},
    "parts, with tools": {"messages": [user(text("One")), assistant([], tool_calls=CALLED["tool_calls"]), result("rain")], "tools": TOOLS},
    "reasoning": {
        "messages": [user("1+1?"), assistant("2", reasoning="One and\none.", reasoning_content="One and\none."), user("2+2?")]
    },
    "reasoning of the last turn": {
        "messages": [user("1+1?"), assistant("2", reasoning_content="One and one.")],
        "add_generation_prompt": False,
    },
    "reasoning and calls": {
        "messages": [
            system("You are terse."),
            ASKED,
            assistant("", reasoning="I need the tool.", reasoning_content="I need the tool.", tool_calls=CALLED["tool_calls"]),
            result("rain"),
            assistant("Rain.", reasoning_content="It says rain."),
            user("Sure?"),
        ],
        "tools": TOOLS,
    },
    "thinking in the text": {"messages": [user("1+1?"), assistant("<think>\nOne and one.\n</think>\n\n2"), user("2+2?")]},
    "thinking off": {"messages": TURNS, "enable_thinking": False, "thinking": False},
    "thinking on": {"messages": TURNS, "enable_thinking": True, "thinking": True},
    "effort": {"messages": TURNS, "reasoning_effort": "high", "enable_thinking": True},
    "effort, low, and tools": {"messages": [ASKED], "tools": TOOLS, "reasoning_effort": "low", "enable_thinking": True},
    "documents": {
        "messages": [user("Who?")],
        "documents": [{"title": "One", "text": "First \"text\"."}, {"title": "Zwei", "text": "Zweiter\nText."}],
    },
    "developer": {"messages": [{"role": "developer", "content": "Be brief."}, user("Hello!")]},
    "names": {"messages": [user("Hello!", name="anna"), assistant("Hi."), user("Bye", name="ben")]},
    "two users": {"messages": [user("One"), user("Two")]},
    "the assistant begins": {"messages": [assistant("Hi."), user("Hello!")]},
    "a system message in the middle": {"messages": [user("One"), assistant("1"), system("Be brief."), user("Two")]},
    "only a system message": {"messages": [system("Be brief.")]},
    "an unknown role": {"messages": [{"role": "alien", "content": "Hello!"}]},
    "no content": {"messages": [{"role": "user"}]},
    "content none": {"messages": [user(None)]},
    "many turns": {"messages": [m for n in range(12) for m in (user(f"Question {n}"), assistant(f"Answer {n}."))] + [user("Last")], "tools": [WEATHER]},
}
