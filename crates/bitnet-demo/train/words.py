"""The words the synthetic corpus is made of: names, animals, places, things, colours, feelings.

Every list is written for this project; nothing is taken from another text.
"""

import zlib

BOYS = (
    "Tom Ben Max Sam Leo Jack Tim Finn Noah Oscar Adam Luke Theo Hugo Felix Milo Otto Paul Erik Ravi Omar Kofi "
    "Diego Hiro Anton Jonas Emil Nico Toby Will Carl Peter Ali Jan David Henry"
).split()
GIRLS = (
    "Mia Lily Anna Emma Zoe Sara Lucy Ella Ruby Nora Ivy Clara Rosa Mila Nina Ada Eva Maya Kate Lena Amira Yuki "
    "Priya Freya Olga Hana Alma Tess June Greta Marie Sofia Alice Jane Molly Daisy"
).split()
PET_NAMES = (
    "Pip Rusty Bruno Dot Hazel Nutmeg Biscuit Pepper Bramble Clover Moss Tilly Waddle Hopper Shelly Whiskers "
    "Button Coco Maple Fern Patch Poppy Ziggy Bubbles Acorn Muffin Pebble Sunny Snowy Ginger"
).split()

# animal: (adjectives that suit it, where it lives)
ANIMALS = {
    "fox": (["small", "clever", "young", "red"], "in a den under an old tree"),
    "rabbit": (["small", "quick", "soft", "shy"], "in a hole under the hill"),
    "bear": (["big", "gentle", "sleepy", "young"], "in a cave near the river"),
    "mouse": (["tiny", "brave", "little", "quiet"], "in a hole in the wall"),
    "owl": (["wise", "old", "quiet", "young"], "in a tall tree"),
    "hedgehog": (["small", "round", "shy", "kind"], "under a pile of leaves"),
    "squirrel": (["quick", "busy", "little", "cheerful"], "in a hollow tree"),
    "duck": (["little", "cheerful", "white", "funny"], "beside a quiet pond"),
    "frog": (["little", "green", "jolly", "funny"], "beside a quiet pond"),
    "turtle": (["slow", "kind", "patient", "old"], "near a small lake"),
    "cat": (["grey", "soft", "lazy", "curious"], "in a small house"),
    "dog": (["friendly", "brown", "young", "playful"], "in a small house"),
    "goat": (["white", "stubborn", "young", "hungry"], "on a green hill"),
    "badger": (["shy", "strong", "old", "kind"], "in a den under an old tree"),
    "beaver": (["busy", "strong", "clever", "young"], "near the river"),
    "otter": (["playful", "quick", "happy", "young"], "near the river"),
    "mole": (["small", "shy", "busy", "kind"], "under the green hill"),
    "penguin": (["little", "funny", "brave", "round"], "near the cold sea"),
    "elephant": (["big", "kind", "young", "gentle"], "near a wide river"),
    "lamb": (["little", "soft", "white", "shy"], "on a green hill"),
}

# place: (preposition, what one sees there, spots where a thing may lie or hide)
PLACES = {
    "park": ("in", ["The trees were tall and green.", "Children were laughing and running.", "Birds were singing in the trees."],
             ["under the bench", "behind the big oak tree", "beside the fountain", "in the tall grass"]),
    "beach": ("at", ["The sand was warm and soft.", "The waves were small and blue.", "Sea birds flew over the water."],
              ["behind a big rock", "under the seaweed", "in a hole in the sand", "beside the old boat"]),
    "forest": ("in", ["The trees were tall and quiet.", "The light came softly through the leaves.", "It smelled of pine and rain."],
               ["under a fern", "inside a hollow log", "behind a mossy stone", "beside the stream"]),
    "garden": ("in", ["Bees were buzzing around the flowers.", "The roses were in bloom.", "Everything smelled sweet."],
               ["under the rose bush", "behind the shed", "inside the watering can", "among the carrots"]),
    "farm": ("at", ["The hens were pecking at the ground.", "The cows were chewing slowly.", "It smelled of fresh hay."],
             ["in the hay", "behind the red barn", "under the cart", "beside the duck pond"]),
    "market": ("at", ["There were apples and flowers everywhere.", "Many people were talking and buying fruit.", "It smelled of warm bread."],
               ["under a fruit stall", "behind a basket of apples", "beside the bread stall", "under a wooden table"]),
    "library": ("in", ["It was quiet and cool inside.", "The shelves reached up to the ceiling.", "Everyone was reading."],
                ["under a reading table", "between two thick books", "behind the curtain", "beside the big globe"]),
    "lake": ("at", ["The water was clear and still.", "A white swan swam by.", "Little fish jumped in the water."],
             ["in the reeds", "under the wooden bridge", "beside the old boat", "behind a grey stone"]),
    "hill": ("on", ["The wind was strong and fresh.", "One could see the whole town from there.", "The clouds looked very near."],
             ["behind a big rock", "under a small pine tree", "in the long grass", "beside the path"]),
    "meadow": ("in", ["The flowers were yellow and white.", "Butterflies danced over the grass.", "The grass was soft and high."],
               ["among the daisies", "beside the fence", "under an old willow", "behind a thorn bush"]),
    "playground": ("at", ["The swings were going up and down.", "Many children were playing.", "The slide was shiny in the sun."],
                   ["under the slide", "behind the swings", "in the sandbox", "beside the gate"]),
    "village": ("in", ["The houses were small and bright.", "The bell of the old tower was ringing.", "A baker was calling to everyone."],
                ["beside the well", "behind the bakery", "under the clock tower", "in front of the blue door"]),
    "river": ("at", ["The water ran fast over the stones.", "A blue bird sat on a branch.", "The water sang its song."],
              ["under the bridge", "behind a round stone", "in the reeds", "beside the water mill"]),
    "barn": ("in", ["It was warm and full of hay.", "The old horse was sleeping.", "Little swallows flew in and out."],
             ["in the hay", "behind a milk can", "under the ladder", "beside the old saddle"]),
    "castle": ("in", ["The walls were old and high.", "Flags were flying on the towers.", "Every step made an echo."],
               ["behind a stone pillar", "under the long table", "beside the great stairs", "inside an old chest"]),
}

THINGS = (
    "kite ball boat hat drum book key lantern doll scarf whistle train bear bell basket umbrella flute cup ring "
    "coin marble wagon blanket backpack puppet car top box rocket robot balloon bucket cap bracelet ribbon clock "
    "crown feather pencil shell button spoon"
).split()
# things for bare facts only, beside the ones above: the wider the list, the better the model learns to copy
MORE_THINGS = (
    "apple pear orange lemon carrot cake cookie sandwich letter stamp map mirror candle lamp chair pillow brush "
    "hammer rope net shovel stone stick leaf flower glove sock shirt coat shoe boot belt purse bottle plate bowl "
    "fork jar pot phone radio violin guitar trumpet puzzle sword shield mask wand telescope bicycle scooter sled"
).split()
COLOURS = "red blue green yellow orange purple pink white black brown silver golden".split()
ADJECTIVES = "little kind brave clever curious cheerful quiet gentle lively friendly".split()
TRAITS = [
    "loved to sing", "loved to draw", "loved to run", "loved to read", "liked to ask questions", "loved to dance",
    "liked to help", "loved to explore", "liked to count the stars", "loved to tell jokes", "liked to climb trees",
    "loved to watch the clouds", "liked to build things", "loved to play outside",
]
KIN = [("mother", "she"), ("father", "he"), ("grandmother", "she"), ("grandfather", "he"), ("big sister", "she"),
       ("big brother", "he"), ("aunt", "she"), ("uncle", "he")]
PRONOUNS = {"he": ("he", "him", "his"), "she": ("she", "her", "her")}

_ONSETS = "b br d dr f g gr h j k kr l m n p r s st t tr v w z".split()
_VOWELS = "a e i o u ia io ee oo".split()
_CODAS = ["", "", "", "n", "l", "r", "s", "m", "x", "k"]


def invented_name(rng):
    """A pronounceable name that is in no list, so that copying a name is learnt letter by letter too."""
    parts = [rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(rng.choice((2, 2, 3)))]
    return ("".join(parts) + rng.choice(_CODAS)).capitalize()


def a(noun_phrase):
    """The noun phrase with its indefinite article."""
    return ("an " if noun_phrase[0] in "aeiou" else "a ") + noun_phrase


def cap(text):
    return text[0].upper() + text[1:]


def bucket(key, buckets):
    """A stable hash of the key in 0..buckets; the held-out split is decided by it."""
    return zlib.crc32(key.encode()) % buckets
