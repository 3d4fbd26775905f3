"""The words that a head of words may be taught, by the names that the tree gives them."""

HEAD_WORDS = frozenset(
    word
    for line in (
        "person, people, crowd, child, baby, portrait",
        "indoor, outdoor, kitchen, bathroom, bedroom, living room, office, restaurant, street, road, city, building",
        "skyline, bridge, church, stadium, airport, station, railway, garden, park",
        "beach, sea, lake, river, water, waterfall, mountain, snow, forest, field, grass, tree, flower, desert, rocks",
        "sky, sunset, night",
        "food, meal, cake, pizza, drink",
        "sport, tennis, baseball, soccer, skiing, skateboarding, surfing, party, wedding, concert",
        "screen, screenshot, document, drawing, map",
        "bicycle, bird, boat, car, cat, dog, horse, motorcycle",
    )
    for word in line.split(", ")
)
# Taught too, because they tell other words apart, but they are not words of the tree.
ONLY_TAUGHT = frozenset(("close up", "studio", "black and white"))
